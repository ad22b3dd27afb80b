// Package cinder is OpenStack's block storage API as a front end of control:
// paths, request bodies, answers and error bodies of /v2/{project}/..., in the
// form of Cinder's Kilo release, which is the form of the guide "Block Storage
// API v2", and of /v3 with its microversions, in the form of Cinder's later
// releases. Answers of /v2 carry exactly the guide's keys unless V2ExtraFields
// asks for Cinder's others; those of /v3 carry exactly the keys of the
// microversion that was asked for.
//
// The package decides nothing about volumes: it reads a request, calls control
// and shows the result. It keeps no state and caches nothing. It knows no
// catalog, no driver and no other front end. Operations are rows of one route
// table, each with the microversion that brought it, and their answers come
// from one view type, which an edition of the API is given to.
package cinder
