package cinder

// groupRoutes are the operations on groups, and those of the older API.
var groupRoutes = []route{
	{"GET", "/group_types", 11, listGroupTypes},
	{"POST", "/group_types", 11, createGroupType},
	{"GET", "/group_types/default", 11, showDefaultGroupType},
	{"GET", "/group_types/{id}", 11, showGroupType},
	{"PUT", "/group_types/{id}", 11, updateGroupType},
	{"DELETE", "/group_types/{id}", 11, deleteGroupType},
	{"GET", "/group_types/{id}/group_specs", 11, listGroupSpecs},
	{"POST", "/group_types/{id}/group_specs", 11, createGroupSpecs},
	{"GET", "/group_types/{id}/group_specs/{key}", 11, showGroupSpec},
	{"PUT", "/group_types/{id}/group_specs/{key}", 11, updateGroupSpec},
	{"DELETE", "/group_types/{id}/group_specs/{key}", 11, deleteGroupSpec},

	{"GET", "/groups", 13, listGroups},
	{"GET", "/groups/detail", 13, listGroupsDetail},
	{"POST", "/groups", 13, createGroup},
	{"POST", "/groups/action", 13, groupsAction},
	{"GET", "/groups/{id}", 13, showGroup},
	{"PUT", "/groups/{id}", 13, updateGroup},
	{"POST", "/groups/{id}/action", 13, groupAction},

	{"GET", "/group_snapshots", 14, listGroupSnapshots},
	{"GET", "/group_snapshots/detail", 14, listGroupSnapshotsDetail},
	{"POST", "/group_snapshots", 14, createGroupSnapshot},
	{"GET", "/group_snapshots/{id}", 14, showGroupSnapshot},
	{"DELETE", "/group_snapshots/{id}", 14, deleteGroupSnapshot},
	{"POST", "/group_snapshots/{id}/action", 14, groupSnapshotAction},

	{"GET", "/consistencygroups", 0, listLegacyGroups},
	{"GET", "/consistencygroups/detail", 0, listLegacyGroupsDetail},
	{"POST", "/consistencygroups", 0, createLegacyGroup},
	{"POST", "/consistencygroups/create_from_src", 0, createLegacyGroupFrom},
	{"GET", "/consistencygroups/{id}", 0, showLegacyGroup},
	{"PUT", "/consistencygroups/{id}", 0, updateLegacyGroup},
	{"PUT", "/consistencygroups/{id}/update", 0, updateLegacyGroup},
	{"POST", "/consistencygroups/{id}/delete", 0, deleteLegacyGroup},

	{"GET", "/cgsnapshots", 0, listLegacySnapshots},
	{"GET", "/cgsnapshots/detail", 0, listLegacySnapshotsDetail},
	{"POST", "/cgsnapshots", 0, createLegacySnapshot},
	{"GET", "/cgsnapshots/{id}", 0, showLegacySnapshot},
	{"DELETE", "/cgsnapshots/{id}", 0, deleteLegacySnapshot},
}
