// Package cinder is OpenStack's block storage API as a front end of control:
// paths, request bodies, answers and error bodies of /v2/{project}/..., in the
// form of Cinder's Kilo release, which is the form of the guide "Block Storage
// API v2". Answers carry exactly the guide's keys unless V2ExtraFields asks for
// Cinder's others.
//
// The package decides nothing about volumes: it reads a request, calls control
// and shows the result. It keeps no state and caches nothing. It knows no
// catalog, no driver and no other front end. Operations are rows of a route
// table and their answers come from one view type, so that another version of
// the API is another view over the same rows.
package cinder
