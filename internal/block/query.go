package block

import "time"

// ListQuery selects and orders a page of volumes, snapshots or types. The
// catalog applies it; the front end has validated it.
type ListQuery struct {
	Project ProjectID // "" for all projects, NoProject for none
	Sort    []SortKey // created_at desc, id desc is appended where missing
	Limit   int       // at most this many; negative for no limit
	Offset  int
	Marker  string            // id of the last item of the page before; "" for none
	Filters map[string]string // API column name -> exact text; nothing fits a column that is not known
	// Metadata filters by exact key and value, ImageMetadata by those of the image
	// that a volume was made of.
	Metadata, ImageMetadata map[string]string
	Like                    map[string]string // API column name of a text -> what it must contain
	Times                   []TimeBound       // all of them must hold
}

// TimeBound compares a column with a time.
type TimeBound struct {
	Column   string // API name
	Operator string // "gt", "gte", "eq", "neq", "lt" or "lte"
	At       time.Time
}

// SortKey is one column of an order.
type SortKey struct {
	Column string // API name: "name", "created_at", "size", ...
	Desc   bool
}
