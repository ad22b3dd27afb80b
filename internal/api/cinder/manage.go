package cinder

import (
	"net/http"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

// manageRoutes are the operations on what lies in stores and is not known yet:
// since 3.8 under names of their own, and before that as extensions.
var manageRoutes = []route{
	{"GET", "/os-volume-manage", 0, listManageable(volumeManaging, false)},
	{"GET", "/os-volume-manage/detail", 0, listManageable(volumeManaging, true)},
	{"POST", "/os-volume-manage", 0, manageVolume},
	{"GET", "/os-snapshot-manage", 0, listManageable(snapshotManaging, false)},
	{"GET", "/os-snapshot-manage/detail", 0, listManageable(snapshotManaging, true)},
	{"POST", "/os-snapshot-manage", 0, manageSnapshot},
	{"GET", "/manageable_volumes", 8, listManageable(volumeManaging, false)},
	{"GET", "/manageable_volumes/detail", 8, listManageable(volumeManaging, true)},
	{"POST", "/manageable_volumes", 8, manageVolume},
	{"GET", "/manageable_snapshots", 8, listManageable(snapshotManaging, false)},
	{"GET", "/manageable_snapshots/detail", 8, listManageable(snapshotManaging, true)},
	{"POST", "/manageable_snapshots", 8, manageSnapshot},
}

// managing is how volumes or snapshots of a store are listed.
type managing struct {
	key  string
	list func(*control.Service, *call, string, string, control.ManagePage) ([]control.Manageable, error)
}

var (
	volumeManaging = managing{"manageable-volumes", func(s *control.Service, c *call, backend, host string,
		p control.ManagePage) ([]control.Manageable, error) {
		return s.ManageableVolumes(c.r.Context(), c.caller, backend, host, p)
	}}
	snapshotManaging = managing{"manageable-snapshots", func(s *control.Service, c *call, backend, host string,
		p control.ManagePage) ([]control.Manageable, error) {
		return s.ManageableSnapshots(c.r.Context(), c.caller, backend, host, p)
	}}
)

var (
	reference         = &schema{kinds: []string{"object", "string"}}
	snapshotReference = &schema{kinds: []string{"object", "null", "string"}}

	manageVolumeBody = envelope("volume", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", false, shortText},
		{"description", false, shortText},
		{"volume_type", false, shortText},
		{"metadata", false, metaOrNull},
		{"bootable", false, boolean},
		{"availability_zone", false, shortText},
		{"ref", true, reference},
		{"host", false, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
		{"cluster", false, orNullText},
	}})
	manageSnapshotBody = envelope("snapshot", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", false, shortText},
		{"description", false, shortText},
		{"metadata", false, metaOrNull},
		{"volume_id", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"ref", true, snapshotReference},
	}})
)

// source is the name of what a reference means; it is its id too.
func source(o *object) (string, error) {
	if ref := o.object("ref"); ref != nil {
		for _, name := range []string{"source-name", "source-id"} {
			if text := ref.text(name); text != nil && *text != "" {
				return *text, nil
			}
		}
	}
	ref, _ := o.get("ref")
	return "", invalid("Manage existing volume failed due to invalid backend reference %s: "+
		"Reference must contain source-name element.", pyStr(ref))
}

// backendOfHost is the backend of "host@backend#pool".
func (c *call) backendOfHost(host string) string {
	host, _, _ = strings.Cut(host, "#")
	return c.backend(host)
}

func manageVolume(c *call) error {
	o, err := c.checked("volume", manageVolumeBody)
	if err != nil {
		return err
	}
	o = o.object("volume")
	name, err := source(o)
	if err != nil {
		return err
	}
	host := orEmpty(o.text("host"))
	switch {
	case host != "":
	case c.view.since(16): // no zone has clusters
		return invalid("Invalid input received: One and only one of cluster and host must be set.")
	default:
		return invalid("Invalid input received: Host field is missing.")
	}
	v, err := c.s.cfg.Control.ManageVolume(c.r.Context(), c.caller, control.NewManaged{
		Backend: c.backendOfHost(host), Host: host, Source: name, Name: o.stripped("name"),
		Description: o.stripped("description"), VolumeType: nonEmpty(o.text("volume_type")),
		AvailabilityZone: o.text("availability_zone"), Bootable: o.flag("bootable"), Metadata: o.texts("metadata"),
	})
	return c.answerVolume(http.StatusAccepted, c.view.volume, v, err)
}

func manageSnapshot(c *call) error {
	o, err := c.checked("snapshot", manageSnapshotBody)
	if err != nil {
		return err
	}
	o = o.object("snapshot")
	name, err := source(o)
	if err != nil {
		return err
	}
	sn, err := c.s.cfg.Control.ManageSnapshot(c.r.Context(), c.caller, control.NewSnapshot{
		VolumeID: *id[block.VolumeID](o, "volume_id"), Name: o.stripped("name"), Description: o.stripped("description"),
		Metadata: o.texts("metadata"),
	}, name)
	if err != nil {
		return err
	}
	return c.document(http.StatusAccepted, func(e *encoder) {
		e.open('{')
		e.key("snapshot")
		c.view.snapshot(e, sn, true)
		e.close('}')
	})
}

// managePage reads which part of what is in a store is wanted
// (cinder/api/contrib/resource_common_manage.py).
func managePage(ps params) (p control.ManagePage, none bool, err error) {
	for _, param := range ps {
		if !slices.Contains([]string{"host", "cluster", "limit", "marker", "offset", "sort", "sort_key", "sort_dir",
			"all_tenants", "detailed"}, param.name) {
			return p, false, invalid("Invalid filters %s are found in query options.", param.name)
		}
	}
	var given bool
	if p.Limit, given, err = ps.limit(); err != nil {
		return p, false, err
	}
	if p.Offset, err = ps.offset(); err != nil {
		return p, false, err
	}
	if p.Marker, err = manageMarker(ps); err != nil {
		return p, false, err
	}
	_, modern := ps.get("sort")
	if _, older := ps.get("sort_key"); modern || older {
		keys, err := ps.order([]string{"size", "reference"})
		if err != nil {
			return p, false, err
		}
		p.BySize, p.Ascending = keys[0].Column == "size", !keys[0].Desc
	}
	return p, given && p.Limit == 0, nil
}

// manageMarker reads the reference after which a page begins: an object, of which
// the name is what counts here.
func manageMarker(ps params) (string, error) {
	text, given := ps.get("marker")
	if !given || text == "" {
		return "", nil
	}
	o, err := decode([]byte(text))
	if err != nil {
		return "", invalid("Invalid input received: marker %s can not be analysed, please use json like format", text)
	}
	if name := o.text("source-name"); name != nil && *name != "" {
		return *name, nil
	}
	return "", invalid("Invalid input received: marker not found: %s", pyStr(o))
}

func listManageable(of managing, detailed bool) func(*call) error {
	return func(c *call) error {
		ps, err := parseQuery(c.r.URL.RawQuery)
		if err != nil {
			return err
		}
		p, none, err := managePage(ps)
		if err != nil {
			return err
		}
		host, ok := ps.get("host")
		if !ok {
			if _, ok := ps.get("cluster"); !ok || !c.view.since(17) {
				return invalid("Host must be specified in query parameters")
			}
			host = "@"
		}
		if none {
			p.Limit = 0
		}
		list, err := of.list(c.s.cfg.Control, c, c.backendOfHost(host), host, p)
		if err != nil {
			return err
		}
		return c.ok(func(e *encoder) {
			e.open('{')
			e.key(of.key)
			e.open('[')
			for _, m := range list {
				manageable(e, m, detailed)
			}
			e.close(']')
			e.close('}')
		})
	}
}

// manageable writes what lies in a store (cinder/api/views/manageable_volumes.py
// and manageable_snapshots.py).
func manageable(e *encoder, m control.Manageable, detailed bool) {
	e.open('{')
	e.textsMember("reference", map[string]string{"source-name": m.Name})
	e.wholeMember("size", m.Size)
	e.boolMember("safe_to_manage", m.Safe)
	if m.Volume != "" {
		e.textsMember("source_reference", map[string]string{"source-name": string(m.Volume)})
	}
	if detailed {
		textOrNull(e, "reason_not_safe", m.Reason)
		textOrNull(e, "cinder_id", m.ID)
		e.nullMember("extra_info")
	}
	e.close('}')
}
