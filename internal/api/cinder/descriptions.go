package cinder

// descriptions say what each route is for. A route without one fails a test.
var descriptions = map[string]notes{
	"GET /volumes": {summary: "list volumes", list: &volumeList, query: counted,
		answer: listed("volumes", volumeRow, "volumes_links", countOfItems)},
	"GET /volumes/detail": {summary: "list volumes in full", list: &volumeList, query: counted,
		answer: listed("volumes", aVolume, "volumes_links", countOfItems)},
	"POST /volumes": {summary: "make a volume: empty, of a snapshot, a volume or an image", status: 202,
		body: createVolumeBodyOf, answer: under("volume", aNewVolume)},
	"GET /volumes/summary": {summary: "what volumes come to", query: []string{"all_tenants: of all projects"},
		answer: aSummary},
	"GET /volumes/{id}": {summary: "show a volume", answer: under("volume", aVolume)},
	"PUT /volumes/{id}": {summary: "change a volume's name, description or metadata", body: updateVolumeBodyOf,
		answer: under("volume", aNewVolume)},
	"DELETE /volumes/{id}": {summary: "delete a volume", status: 202, query: []string{
		"cascade: with its snapshots", "force: whatever its status, for administrators; since 3.23"}},
	"POST /volumes/{id}/action": {summary: "do something with a volume", status: 202, actions: volumeActions,
		answer: anUpload, also: imageMetadataOrPath},
	"GET /volumes/{id}/encryption":       {summary: "how a volume is encrypted", answer: volumeEncryption},
	"GET /volumes/{id}/encryption/{key}": {summary: "one item of how a volume is encrypted, as text", plain: true},
	"GET /volumes/{id}/metadata":         {summary: "show metadata; with an ETag since 3.15", answer: metadataShape},
	"POST /volumes/{id}/metadata": {summary: "add metadata", body: always(metadataBody),
		answer: metadataShape},
	"PUT /volumes/{id}/metadata": {summary: "replace all metadata; with If-Match since 3.15", body: always(metadataBody),
		answer: metadataShape},
	"GET /volumes/{id}/metadata/{key}": {summary: "show an item of metadata", answer: metaShape},
	"PUT /volumes/{id}/metadata/{key}": {
		summary: "set an item of metadata",
		body:    always(metaItemBody),
		answer:  metaShape,
	},
	"DELETE /volumes/{id}/metadata/{key}": {summary: "delete an item of metadata"},

	"GET /snapshots": {summary: "list snapshots", list: &snapshotList, query: counted,
		answer: listed("snapshots", snapshotRow, "snapshots_links", countOfItems)},
	"GET /snapshots/detail": {summary: "list snapshots in full", list: &snapshotList, query: counted,
		answer: listed("snapshots", aSnapshot, "snapshots_links", countOfItems)},
	"POST /snapshots": {summary: "make a snapshot of a volume", status: 202, body: createSnapshotBodyOf,
		answer: under("snapshot", aNewSnapshot)},
	"GET /snapshots/{id}": {summary: "show a snapshot", answer: under("snapshot", aSnapshot)},
	"PUT /snapshots/{id}": {summary: "change a snapshot's name or description", body: updateSnapshotBodyOf,
		answer: under("snapshot", aNewSnapshot)},
	"DELETE /snapshots/{id}": {summary: "delete a snapshot", status: 202},
	"POST /snapshots/{id}/action": {
		summary: "do something with a snapshot",
		status:  202,
		actions: snapshotActions,
	},
	"GET /snapshots/{id}/metadata":  {summary: "show metadata", answer: metadataShape},
	"POST /snapshots/{id}/metadata": {summary: "add metadata", body: always(metadataBody), answer: metadataShape},
	"PUT /snapshots/{id}/metadata": {
		summary: "replace all metadata",
		body:    always(metadataBody),
		answer:  metadataShape,
	},
	"GET /snapshots/{id}/metadata/{key}": {summary: "show an item of metadata", answer: metaShape},
	"PUT /snapshots/{id}/metadata/{key}": {
		summary: "set an item of metadata",
		body:    always(metaItemBody),
		answer:  metaShape,
	},
	"DELETE /snapshots/{id}/metadata/{key}": {summary: "delete an item of metadata"},

	"GET /attachments": {summary: "list attachments", list: &attachmentList,
		answer: listed("attachments", obj(attachmentRow), "attachments_links")},
	"GET /attachments/detail": {summary: "list attachments in full", list: &attachmentList,
		answer: listed("attachments", attachmentShape, "attachments_links")},
	"POST /attachments": {summary: "reserve a volume for a server; with a connector also a path to it",
		body: newAttachmentBodyOf, answer: under("attachment", attachmentShape)},
	"GET /attachments/{id}": {summary: "show an attachment", answer: under("attachment", attachmentShape)},
	"PUT /attachments/{id}": {summary: "give a host a path to the volume", body: always(updateAttachmentBody),
		answer: under("attachment", attachmentShape)},
	"DELETE /attachments/{id}": {summary: "end an attachment", answer: listed("attachments", obj(attachmentRow), "")},
	"POST /attachments/{id}/action": {summary: "say that the host has the volume", status: 204,
		actions: attachmentActions},

	"GET /messages": {summary: "what went wrong with asynchronous operations", list: &messageList,
		answer: listed("messages", messageShape, "messages_links")},
	"GET /messages/{id}":    {summary: "show a message", answer: under("message", messageShape)},
	"DELETE /messages/{id}": {summary: "delete a message", status: 204},

	"GET /resource_filters": {summary: "by what collections can be filtered",
		query: []string{"resource: only of this collection"}, answer: under("resource_filters", many(filtersShape))},
	"GET /limits": {summary: "limits and what is in use", answer: limits,
		query: []string{"project_id: whose, for administrators; since 3.39"}},
	"GET /os-quota-sets/{target}": {summary: "show quotas", answer: under("quota_set", quotaSet),
		query: []string{"usage: with what is in use"}},
	"GET /os-quota-sets/{target}/defaults": {summary: "show default quotas", answer: under("quota_set", quotaSet)},
	"PUT /os-quota-sets/{target}": {summary: "set quotas", body: always(updateQuotasBody),
		answer: under("quota_set", quotaSet)},
	"DELETE /os-quota-sets/{target}": {summary: "set quotas back to their defaults"},
	"GET /os-quota-class-sets/{class}": {
		summary: "show the limits of a class",
		answer:  under("quota_class_set", quotaSet),
	},
	"PUT /os-quota-class-sets/{class}": {
		summary: "set limits of a class",
		body:    always(quotaClassBody),
		answer:  under("quota_class_set", quotaSet),
	},
	"GET /os-availability-zone": {
		summary: "list availability zones",
		answer:  under("availabilityZoneInfo", many(zoneShape)),
	},
	"GET /extensions": {
		summary: "list extensions",
		answer:  under("extensions", many(extensionShape)),
	},
	"GET /extensions/{alias}":              {summary: "show an extension", answer: under("extension", extensionShape)},
	"GET /os-volume-transfer":              transferred["GET"],
	"GET /os-volume-transfer/detail":       transferred["GET detail"],
	"POST /os-volume-transfer":             transferred["POST"],
	"GET /os-volume-transfer/{id}":         transferred["GET one"],
	"DELETE /os-volume-transfer/{id}":      transferred["DELETE"],
	"POST /os-volume-transfer/{id}/accept": transferred["accept"],
	"GET /volume-transfers":                transferred["GET"],
	"GET /volume-transfers/detail":         transferred["GET detail"],
	"POST /volume-transfers":               transferred["POST"],
	"GET /volume-transfers/{id}":           transferred["GET one"],
	"DELETE /volume-transfers/{id}":        transferred["DELETE"],
	"POST /volume-transfers/{id}/accept":   transferred["accept"],
}

// counted is the parameter of lists that can be counted.
var counted = []string{"with_count: also how many items there are on all pages; since 3.45"}

// transferred are the operations on transfers, which have two paths.
var transferred = map[string]notes{
	"GET": {
		summary: "list transfers",
		list:    &transferList,
		answer:  listed("transfers", transferRow, "transfers_links"),
	},
	"GET detail": {
		summary: "list transfers in full",
		list:    &transferList,
		answer:  listed("transfers", transferShape, "transfers_links"),
	},
	"POST": {
		summary: "offer a volume to whoever has the key",
		status:  202,
		body:    newTransferBodyOf,
		answer:  under("transfer", transferShape),
	},
	"GET one": {summary: "show a transfer", answer: under("transfer", transferShape)},
	"DELETE":  {summary: "take an offer back", status: 202},
	"accept": {
		summary: "take the volume",
		status:  202,
		body:    always(acceptTransferBody),
		answer:  under("transfer", transferRow),
	},
}

// newAttachmentBodyOf and newTransferBodyOf are the bodies in an edition.
func newAttachmentBodyOf(in edition) *schema {
	if in.since(54) {
		return createAttachmentBody54
	}
	return createAttachmentBody
}

func newTransferBodyOf(in edition) *schema {
	if in.since(55) {
		return createTransferBody55
	}
	return createTransferBody
}
