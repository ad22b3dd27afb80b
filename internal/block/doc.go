// Package block holds the nouns of block storage and the rules about them that
// need no input or output: ids, kinds of error, the status tables, quota
// arithmetic. It knows no database, no driver, no protocol and no clock; times
// are given to it.
package block
