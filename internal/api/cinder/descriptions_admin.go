package cinder

var typeDescriptions = map[string]notes{
	"GET /types": {
		summary: "list volume types",
		list:    &typeList,
		answer:  listed("volume_types", aType, "volume_type_links"),
	},
	"POST /types": {
		summary: "make a volume type",
		body:    always(createTypeBody),
		answer:  under("volume_type", aType),
	},
	"GET /types/default": {summary: "the type of volumes that name none", answer: under("volume_type", aType)},
	"GET /types/{id}":    {summary: "show a volume type", answer: under("volume_type", aType)},
	"PUT /types/{id}": {
		summary: "change a volume type",
		body:    always(updateTypeBody),
		answer:  under("volume_type", aType),
	},
	"DELETE /types/{id}":      {summary: "delete a volume type", status: 202},
	"POST /types/{id}/action": {summary: "say which projects may use a private type", status: 202, actions: typeActions},
	"GET /types/{id}/os-volume-type-access": {summary: "which projects may use a private type",
		answer: under("volume_type_access", many(obj(fields(text, "volume_type_id", "project_id"))))},
	"GET /types/{id}/extra_specs": {summary: "show extra specs", answer: under("extra_specs", textsOrNil)},
	"POST /types/{id}/extra_specs": {
		summary: "set extra specs",
		body:    always(specsBody),
		answer:  under("extra_specs", textsOrNil),
	},
	"GET /types/{id}/extra_specs/{key}":    {summary: "show an extra spec", answer: oneText},
	"PUT /types/{id}/extra_specs/{key}":    {summary: "set an extra spec", body: always(oneSpecBody), answer: oneText},
	"DELETE /types/{id}/extra_specs/{key}": {summary: "delete an extra spec", status: 202},
	"GET /types/{id}/encryption":           {summary: "how volumes of a type are encrypted", answer: typeEncryption},
	"POST /types/{id}/encryption": {
		summary: "have volumes of a type encrypted",
		body:    always(createEncryptionBody),
		answer:  newEncryption,
	},
	"GET /types/{id}/encryption/{key}": {summary: "one item of how volumes of a type are encrypted", answer: oneValue},
	"PUT /types/{id}/encryption/{key}": {
		summary: "change how volumes of a type are encrypted",
		body:    always(updateEncryptionBody),
		answer:  newEncryption,
	},
	"DELETE /types/{id}/encryption/{key}": {summary: "have volumes of a type no longer encrypted", status: 202},
	"GET /default-types": {
		summary: "list the default types of projects",
		answer:  under("default_types", many(aDefault)),
	},
	"GET /default-types/{target}": {
		summary: "show a project's default type",
		answer:  under("default_type", aDefault),
	},
	"PUT /default-types/{target}": {
		summary: "set a project's default type",
		body:    always(setDefaultBody),
		answer:  under("default_type", aDefault),
	},
	"DELETE /default-types/{target}": {summary: "unset a project's default type", status: 204},

	"GET /qos-specs": {
		summary: "list QoS specs",
		list:    &qosList,
		answer:  listed("qos_specs", qosShape, "qos_specs_links"),
	},
	"POST /qos-specs":     {summary: "make QoS specs", body: always(createQoSBody), answer: qosAnswer},
	"GET /qos-specs/{id}": {summary: "show QoS specs", answer: qosAnswer},
	"PUT /qos-specs/{id}": {
		summary: "set keys of QoS specs",
		body:    always(updateQoSBody),
		answer:  under("qos_specs", textsOrNil),
	},
	"DELETE /qos-specs/{id}": {
		summary: "delete QoS specs",
		status:  202,
		query:   []string{"force: even if types have them"},
	},
	"PUT /qos-specs/{id}/delete_keys": {summary: "delete keys of QoS specs", status: 202, body: always(qosKeysBody)},
	"GET /qos-specs/{id}/associations": {
		summary: "which types have QoS specs",
		answer:  under("qos_associations", many(obj(fields(text, "association_type", "name", "id")))),
	},
	"GET /qos-specs/{id}/associate": {
		summary: "give QoS specs to a type",
		status:  202,
		query:   []string{"vol_type_id: the type"},
	},
	"GET /qos-specs/{id}/disassociate": {
		summary: "take QoS specs from a type",
		status:  202,
		query:   []string{"vol_type_id: the type"},
	},
	"GET /qos-specs/{id}/disassociate_all": {summary: "take QoS specs from all types", status: 202},
}

var qosAnswer = obj(all(f("qos_specs", qosShape), f("links", links)))

var deploymentDescriptions = map[string]notes{
	"GET /os-services": {summary: "list services", query: []string{"host: of this host", "binary: of this kind"},
		answer: under("services", many(serviceShape))},
	"PUT /os-services/{action}": {summary: "enable, disable, disable-log-reason, freeze, thaw, failover_host; " +
		"failover since 3.26, set-log and get-log since 3.32", body: always(anObject), also: serviceChange,
		status: 202},
	"GET /scheduler-stats/get_pools": {summary: "list pools", query: []string{"detail: with capabilities",
		"name: only this one; since 3.28", "volume_type: where volumes of a type go; since 3.35"},
		answer: under("pools", many(poolShape))},
	"GET /capabilities/{host}": {summary: "what a backend can do", answer: capabilitiesShape},
	"GET /os-hosts": {
		summary: "list hosts",
		query:   []string{"zone: in this zone"},
		answer:  under("hosts", many(hostRow)),
	},
	"GET /os-hosts/{host}": {summary: "what projects have on a host", answer: under("host", many(hostUse))},
	"GET /clusters": {
		summary: "list clusters, of which there are none",
		answer:  under("clusters", many(whatever)),
	},
	"GET /clusters/detail": {
		summary: "list clusters, of which there are none",
		answer:  under("clusters", many(whatever)),
	},
	"GET /clusters/{name}": {summary: "show a cluster; there is none", answer: free},
	"PUT /clusters/{name}": {summary: "enable or disable a cluster; there is none", answer: free},
	"POST /workers/cleanup": {summary: "clean up after services that are down", status: 202,
		answer: obj(all(f("cleaning", many(whatever)), f("unavailable", many(whatever))))},
}

var groupDescriptions = map[string]notes{
	"GET /group_types": {
		summary: "list group types",
		list:    &groupTypeList,
		answer:  listed("group_types", groupTypeShape, "group_type_links"),
	},
	"POST /group_types": {
		summary: "make a group type",
		status:  202,
		body:    always(createGroupTypeBody),
		answer:  under("group_type", groupTypeShape),
	},
	"GET /group_types/default": {
		summary: "the default group type",
		answer:  under("group_type", groupTypeShape),
	},
	"GET /group_types/{id}": {
		summary: "show a group type",
		answer:  under("group_type", groupTypeShape),
	},
	"PUT /group_types/{id}": {
		summary: "change a group type",
		body:    always(updateGroupTypeBody),
		answer:  under("group_type", groupTypeShape),
	},
	"DELETE /group_types/{id}":          {summary: "delete a group type", status: 202},
	"GET /group_types/{id}/group_specs": {summary: "show group specs", answer: under("group_specs", textsOrNil)},
	"POST /group_types/{id}/group_specs": {
		summary: "set group specs",
		status:  202,
		body:    always(groupSpecsBody),
		answer:  under("group_specs", textsOrNil),
	},
	"GET /group_types/{id}/group_specs/{key}": {summary: "show a group spec", answer: oneText},
	"PUT /group_types/{id}/group_specs/{key}": {
		summary: "set a group spec",
		body:    always(groupSpecBody),
		answer:  oneText,
	},
	"DELETE /group_types/{id}/group_specs/{key}": {summary: "delete a group spec", status: 202},

	"GET /groups": {summary: "list groups", list: &groupList, answer: listed("groups", named, "group_links")},
	"GET /groups/detail": {
		summary: "list groups in full",
		list:    &groupList,
		query:   withVolumes,
		answer:  listed("groups", groupShape, "group_links"),
	},
	"POST /groups": {
		summary: "make a group",
		status:  202,
		body:    always(createGroupBody),
		answer:  under("group", named),
	},
	"POST /groups/action": {
		summary: "make a group of a group or of a group snapshot; since 3.14",
		status:  202,
		actions: groupsActions,
		answer:  under("group", named),
	},
	"GET /groups/{id}": {summary: "show a group", query: withVolumes, answer: under("group", groupShape)},
	"PUT /groups/{id}": {summary: "change a group", status: 202, body: always(updateGroupBody)},
	"POST /groups/{id}/action": {
		summary: "delete a group or do something with it",
		status:  202,
		actions: groupActions,
		also:    replicationTargets,
	},

	"GET /group_snapshots": {
		summary: "list group snapshots",
		list:    &groupSnapshotList,
		answer:  listed("group_snapshots", named, "group_snapshot_links"),
	},
	"GET /group_snapshots/detail": {
		summary: "list group snapshots in full",
		list:    &groupSnapshotList,
		answer:  listed("group_snapshots", groupSnapshotShape, "group_snapshot_links"),
	},
	"POST /group_snapshots": {
		summary: "snapshot all volumes of a group at one instant",
		status:  202,
		body:    always(createGroupSnapshotBody),
		answer:  under("group_snapshot", obj(idAndName, all(f("group_type_id", text)))),
	},
	"GET /group_snapshots/{id}": {
		summary: "show a group snapshot",
		answer:  under("group_snapshot", groupSnapshotShape),
	},
	"DELETE /group_snapshots/{id}": {summary: "delete a group snapshot", status: 202},
	"POST /group_snapshots/{id}/action": {
		summary: "do something with a group snapshot",
		status:  202,
		actions: groupSnapshotActions,
	},

	"GET /consistencygroups": {
		summary: "list consistency groups",
		list:    &legacyGroupList,
		answer:  listed("consistencygroups", named, "consistencygroup_links"),
	},
	"GET /consistencygroups/detail": {
		summary: "list consistency groups in full",
		list:    &legacyGroupList,
		answer:  listed("consistencygroups", legacyGroupShape, "consistencygroup_links"),
	},
	"POST /consistencygroups": {
		summary: "make a consistency group",
		status:  202,
		body:    always(createLegacyBody),
		answer:  under("consistencygroup", named),
	},
	"POST /consistencygroups/create_from_src": {
		summary: "make a consistency group of another or of its snapshot",
		status:  202,
		body:    always(legacySourceBody),
		answer:  under("consistencygroup", named),
	},
	"GET /consistencygroups/{id}": {
		summary: "show a consistency group",
		answer:  under("consistencygroup", legacyGroupShape),
	},
	"PUT /consistencygroups/{id}": {
		summary: "change a consistency group",
		status:  202,
		body:    always(updateLegacyBody),
	},
	"PUT /consistencygroups/{id}/update": {
		summary: "change a consistency group",
		status:  202,
		body:    always(updateLegacyBody),
	},
	"POST /consistencygroups/{id}/delete": {
		summary: "delete a consistency group",
		status:  202,
		body:    always(deleteLegacyBody),
	},
	"GET /cgsnapshots": {
		summary: "list snapshots of consistency groups",
		answer:  listed("cgsnapshots", named, ""),
	},
	"GET /cgsnapshots/detail": {
		summary: "list snapshots of consistency groups in full",
		answer:  listed("cgsnapshots", legacySnapshotShape, ""),
	},
	"POST /cgsnapshots": {
		summary: "snapshot a consistency group",
		status:  202,
		body:    always(createLegacySnapshotBody),
		answer:  under("cgsnapshot", named),
	},
	"GET /cgsnapshots/{id}": {
		summary: "show a snapshot of a consistency group",
		answer:  under("cgsnapshot", legacySnapshotShape),
	},
	"DELETE /cgsnapshots/{id}": {summary: "delete a snapshot of a consistency group", status: 202},
}

// withVolumes is the parameter of groups that shows their volumes.
var withVolumes = []string{"list_volume: with the ids of its volumes; since 3.25"}
