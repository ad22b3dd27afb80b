// Package keystore keeps keys and other secrets of projects. They lie in the
// catalog, sealed with a key that is made of the zone's, so that neither the
// catalog nor a copy of it tells any; they are never logged. What a project has
// another does not see.
//
// A key that goes to another zone is sealed for that zone alone (HPKE, RFC
// 9180), whose key pair is made of its own key too.
package keystore
