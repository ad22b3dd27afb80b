package block

// Backend is a share of a store with the storage identity that the kvol API
// shows: `svm_ip:/path` is where a storage server would export it.
type Backend struct {
	Name      string // what extra_specs.volume_backend_name says
	Store     string // name of the store, as configured
	SVMName   string
	SVMIP     string
	ClusterIP string
	Path      string // name of the export path: "vol01"
}

// ExportPath is the form in which the kvol document shows a backend's place.
func (b Backend) ExportPath() string { return b.SVMIP + ":/" + b.Path }
