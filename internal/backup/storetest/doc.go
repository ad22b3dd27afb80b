// Package storetest is the contract of backup.Store as a test suite, a store
// that fails on demand, and a real S3 service for tests.
package storetest
