package cinder

import "net/http"

// extension is an entry of GET /extensions. The names, dates and descriptions
// are those of Cinder's contrib modules.
type extension struct {
	Alias       string   `json:"alias"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Updated     string   `json:"updated"`
	Links       []string `json:"links"`
}

// extensions are those that are served.
var extensions = []extension{
	{"os-vol-image-meta", "VolumeImageMetadata", "Show image metadata associated with the volume.",
		"2012-12-07T00:00:00+00:00", []string{}},
	{"os-used-limits", "UsedLimits", "Provide data on limited resources that are being used.",
		"2013-10-03T00:00:00+00:00", []string{}},
	{"os-admin-actions", "AdminActions", "Enable admin actions.", "2012-08-25T00:00:00+00:00", []string{}},
	{"os-quota-sets", "Quotas", "Quota management support.", "2011-08-08T00:00:00+00:00", []string{}},
	{"os-volume-actions", "VolumeActions", "Enable volume actions.", "2012-05-31T00:00:00+00:00", []string{}},
	{"os-availability-zone", "AvailabilityZones", "Describe Availability Zones.",
		"2013-06-27T00:00:00+00:00", []string{}},
	{"os-extended-snapshot-attributes", "ExtendedSnapshotAttributes", "Extended SnapshotAttributes support.",
		"2012-06-19T00:00:00+00:00", []string{}},
	{"os-vol-tenant-attr", "VolumeTenantAttribute",
		"Expose the internal project_id as an attribute of a volume.", "2011-11-03T00:00:00+00:00", []string{}},
	{"OS-SCH-HNT", "SchedulerHints", "Pass arbitrary key/value pairs to the scheduler.",
		"2013-04-18T00:00:00+00:00", []string{}},
}

func listExtensions(c *call) error {
	return c.answer(http.StatusOK, map[string][]extension{"extensions": extensions})
}

func showExtension(c *call) error {
	alias := c.r.PathValue("alias")
	for _, x := range extensions {
		if x.Alias == alias {
			return c.answer(http.StatusOK, map[string]extension{"extension": x})
		}
	}
	return errNoResource
}
