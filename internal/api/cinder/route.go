package cinder

// route is one operation. since is the microversion 3.N that brought it, 0 if
// it was there before there were any; only those are served under /v2.
type route struct {
	method, pattern string
	since           int
	serve           func(*call) error
}

// routes are the operations, below the project.
var routes = []route{
	{"GET", "/volumes", 0, listVolumes},
	{"GET", "/volumes/detail", 0, listVolumesDetail},
	{"POST", "/volumes", 0, createVolume},
	{"GET", "/volumes/summary", 12, summarise},
	{"GET", "/volumes/{id}", 0, showVolume},
	{"PUT", "/volumes/{id}", 0, updateVolume},
	{"DELETE", "/volumes/{id}", 0, deleteVolume},
	{"POST", "/volumes/{id}/action", 0, volumeAction},
	{"GET", "/volumes/{id}/encryption", 0, showEncryption},
	{"GET", "/volumes/{id}/encryption/{key}", 0, showEncryptionItem},
	{"GET", "/volumes/{id}/metadata", 0, showMetadata(volumeMetadata)},
	{"POST", "/volumes/{id}/metadata", 0, writeMetadata(volumeMetadata, false)},
	{"PUT", "/volumes/{id}/metadata", 0, writeMetadata(volumeMetadata, true)},
	{"GET", "/volumes/{id}/metadata/{key}", 0, showMetadataItem(volumeMetadata)},
	{"PUT", "/volumes/{id}/metadata/{key}", 0, writeMetadataItem(volumeMetadata)},
	{"DELETE", "/volumes/{id}/metadata/{key}", 0, deleteMetadataItem(volumeMetadata)},

	{"GET", "/snapshots", 0, listSnapshots},
	{"GET", "/snapshots/detail", 0, listSnapshotsDetail},
	{"POST", "/snapshots", 0, createSnapshot},
	{"GET", "/snapshots/{id}", 0, showSnapshot},
	{"PUT", "/snapshots/{id}", 0, updateSnapshot},
	{"DELETE", "/snapshots/{id}", 0, deleteSnapshot},
	{"POST", "/snapshots/{id}/action", 0, snapshotAction},
	{"GET", "/snapshots/{id}/metadata", 0, showMetadata(snapshotMetadata)},
	{"POST", "/snapshots/{id}/metadata", 0, writeMetadata(snapshotMetadata, false)},
	{"PUT", "/snapshots/{id}/metadata", 0, writeMetadata(snapshotMetadata, true)},
	{"GET", "/snapshots/{id}/metadata/{key}", 0, showMetadataItem(snapshotMetadata)},
	{"PUT", "/snapshots/{id}/metadata/{key}", 0, writeMetadataItem(snapshotMetadata)},
	{"DELETE", "/snapshots/{id}/metadata/{key}", 0, deleteMetadataItem(snapshotMetadata)},

	{"GET", "/types", 0, listTypes},
	{"GET", "/types/default", 0, showDefaultType},
	{"GET", "/types/{id}", 0, showType},

	{"GET", "/attachments", 27, listAttachments},
	{"GET", "/attachments/detail", 27, listAttachmentsDetail},
	{"POST", "/attachments", 27, createAttachment},
	{"GET", "/attachments/{id}", 27, showAttachment},
	{"PUT", "/attachments/{id}", 27, updateAttachment},
	{"DELETE", "/attachments/{id}", 27, deleteAttachment},
	{"POST", "/attachments/{id}/action", 44, attachmentAction},

	{"GET", "/messages", 3, listMessages},
	{"GET", "/messages/{id}", 3, showMessage},
	{"DELETE", "/messages/{id}", 3, deleteMessage},

	{"GET", "/resource_filters", 33, listResourceFilters},
	{"GET", "/limits", 0, showLimits},
	{"GET", "/os-quota-sets/{target}", 0, showQuotas},
	{"GET", "/os-quota-sets/{target}/defaults", 0, showQuotaDefaults},
	{"PUT", "/os-quota-sets/{target}", 0, updateQuotas},
	{"DELETE", "/os-quota-sets/{target}", 0, deleteQuotas},
	{"GET", "/os-availability-zone", 0, listAvailabilityZones},
	{"GET", "/extensions", 0, listExtensions},
	{"GET", "/extensions/{alias}", 0, showExtension},
}
