package cinder

// manageDescriptions are those of both families of paths.
var manageDescriptions = map[string]notes{
	"GET /os-volume-manage":          manageableNotes("manageable-volumes", manageableRow),
	"GET /os-volume-manage/detail":   manageableNotes("manageable-volumes", manageableShape),
	"POST /os-volume-manage":         manageVolumeNotes,
	"GET /os-snapshot-manage":        manageableNotes("manageable-snapshots", manageableRow),
	"GET /os-snapshot-manage/detail": manageableNotes("manageable-snapshots", manageableShape),
	"POST /os-snapshot-manage":       manageSnapshotNotes,

	"GET /manageable_volumes":          manageableNotes("manageable-volumes", manageableRow),
	"GET /manageable_volumes/detail":   manageableNotes("manageable-volumes", manageableShape),
	"POST /manageable_volumes":         manageVolumeNotes,
	"GET /manageable_snapshots":        manageableNotes("manageable-snapshots", manageableRow),
	"GET /manageable_snapshots/detail": manageableNotes("manageable-snapshots", manageableShape),
	"POST /manageable_snapshots":       manageSnapshotNotes,
}

var (
	manageVolumeNotes = notes{summary: "take a volume of a store under management", status: 202,
		body: always(manageVolumeBody), answer: under("volume", aVolume)}
	manageSnapshotNotes = notes{summary: "take a snapshot of a store under management", status: 202,
		body: always(manageSnapshotBody), answer: under("snapshot", aSnapshot)}

	sourceName       = under("source-name", text)
	manageableFields = []field{f("reference", sourceName), f("size", whole), f("safe_to_manage", flag)}
	manageableRow    = obj(manageableFields, some(f("source_reference", sourceName)))
	manageableShape  = obj(manageableFields, some(f("source_reference", sourceName)),
		all(f("reason_not_safe", textOrNil), f("cinder_id", textOrNil), f("extra_info", textOrNil)))
)

func manageableNotes(name string, of shape) notes {
	return notes{summary: "list what a store holds and the service does not know",
		query: []string{"host: host@backend#pool", "limit: at most so many", "offset: without so many of the first",
			"sort: size or reference, with :asc or :desc"},
		answer: listed(name, of, "")}
}
