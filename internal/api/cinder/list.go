package cinder

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"kvol/internal/block"
)

// maxPage is how many items one answer holds at most (osapi_max_limit).
const maxPage = 1000

// listing says how a collection may be listed: by which columns it can be
// sorted and by which filtered. Filters that are not named are dropped, as Cinder does
// before 3.31 (cinder/etc/cinder/resource_filters.json); an administrator may
// filter by any column that the catalog knows.
type listing struct {
	name      string // of the member with the next link
	path      string // below the project
	sort      []string
	equal     []string // sort keys in which no two differ, or as in created_at
	filters   []string
	booleans  []string
	linkAsked bool // the next link is shown only where limit was given
	strict    bool // from 3.31, or 3.strictAt, filters that are not named are refused
	strictAt  int
	pairs     string // the filter that names pairs of a key and a value; "" for none
	aside     string // a parameter that filters nothing; "" for none
}

var (
	volumeList = listing{name: "volumes_links", path: "volumes", strict: true, pairs: "metadata",
		sort: []string{"id", "name", "display_name", "description", "display_description", "size", "status", "attach_status",
			"created_at", "updated_at", "availability_zone", "bootable", "multiattach", "encrypted",
			"volume_type_id", "snapshot_id", "source_volid", "consistencygroup_id", "replication_status",
			"project_id", "user_id", "host", "group_id", "migration_status"},
		equal: []string{"launched_at", "scheduled_at", "cluster_name", "provider_id", "service_uuid", "shared_targets",
			"terminated_at", "use_quota", "_name_id", "ec2_id", "previous_status", "deleted", "deleted_at"},
		filters: []string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone",
			"group_id", "size", "created_at", "updated_at", "consumes_quota"},
		booleans: []string{"bootable", "multiattach", "encrypted"}}
	snapshotList = listing{name: "snapshots_links", path: "snapshots", linkAsked: true, strict: true, pairs: "metadata",
		sort: []string{"id", "name", "display_name", "description", "display_description", "size", "volume_size",
			"status", "created_at", "updated_at", "volume_id", "progress", "project_id", "user_id"},
		filters: []string{"name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"}}
	typeList = listing{name: "volume_type_links", path: "types", linkAsked: true, pairs: "extra_specs",
		strict: true, strictAt: 52, filters: []string{"is_public"},
		sort: []string{"id", "name", "description", "created_at", "updated_at", "is_public"}}
)

// page is a list request that was read.
type page struct {
	query      block.ListQuery
	none       bool // nothing can be meant: limit=0, or a filter that fits nothing
	of         listing
	collection string // path below the project
	asked      bool   // limit was given
	base       string // of links: address, version and project
	params     params
}

// params are a query's parameters in the order in which they were sent.
type params []param

type param struct{ name, value string }

// unescape reads a text of a query string. What is no escape stands for itself,
// as Python's unquote has it.
func unescape(text string) string {
	text = strings.ReplaceAll(text, "+", " ")
	var b strings.Builder
	for {
		plain, rest, more := strings.Cut(text, "%")
		b.WriteString(plain)
		if !more {
			return b.String()
		}
		text = rest
		if len(rest) >= 2 {
			if n, err := strconv.ParseUint(rest[:2], 16, 8); err == nil {
				b.WriteByte(byte(n))
				text = rest[2:]
				continue
			}
		}
		b.WriteByte('%')
	}
}

// parseQuery reads a query string. Text that is not UTF-8 is an error.
func parseQuery(raw string) (params, error) {
	var ps params
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if pair == "" {
			continue
		}
		name, value = unescape(name), unescape(value)
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, errBadURL
		}
		ps = append(ps, param{name, value})
	}
	return ps, nil
}

// get returns a parameter's last value.
func (ps params) get(name string) (value string, ok bool) {
	for _, p := range slices.Backward(ps) {
		if p.name == name {
			return p.value, true
		}
	}
	return "", false
}

// encode writes the parameters without marker, and then marker.
func (ps params) encode(marker string) string {
	var b strings.Builder
	for _, p := range ps {
		if p.name != "marker" {
			b.WriteString(url.QueryEscape(p.name) + "=" + url.QueryEscape(p.value) + "&")
		}
	}
	b.WriteString("marker=" + url.QueryEscape(marker))
	return b.String()
}

// page reads how a collection is to be listed (cinder/api/common.py,
// get_pagination_params and get_sort_params).
func (c *call) page(of listing) (page, error) {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return page{}, err
	}
	p := page{of: of, collection: of.path, params: ps, query: block.ListQuery{Project: c.caller.Own()},
		base: c.view.root}
	if p.query.Limit, p.asked, err = ps.limit(); err != nil {
		return page{}, err
	}
	p.none = p.query.Limit == 0
	p.query.Marker, _ = ps.get("marker")
	if p.query.Offset, err = ps.offset(); err != nil {
		return page{}, err
	}
	if p.query.Sort, err = ps.order(of.sort, of.equal...); err != nil {
		return page{}, err
	}
	all, err := ps.flag("all_tenants")
	if err != nil {
		return page{}, err
	}
	if all && c.caller.Admin() {
		project, _ := ps.get("project_id")
		p.query.Project = block.ProjectID(project)
	}
	if c.view.v3 {
		return p, p.filter3(c.view.edition, c.caller.Admin())
	}
	p.filter(c.caller.Admin())
	return p, nil
}

// limit reads how many items are wanted at most.
func (ps params) limit() (n int, given bool, err error) {
	text, given := ps.get("limit")
	if !given {
		return maxPage, false, nil
	}
	n, whole := pyInt(text)
	switch {
	case !whole:
		return 0, true, invalid("limit param must be an integer")
	case n < 0:
		return 0, true, invalid("limit param must be positive")
	}
	return min(n, maxPage), true, nil
}

func (ps params) offset() (int, error) {
	text, given := ps.get("offset")
	if !given {
		return 0, nil
	}
	n, whole := pyInt(text)
	switch {
	case !whole:
		return 0, invalid("offset must be an integer")
	case n < 0:
		return 0, invalid("offset must be >= 0")
	case n > maxInt:
		return 0, invalid("offset must be <= %d", maxInt)
	}
	return n, nil
}

// pyInt reads what Python's int() would; numbers beyond the machine's are cut
// to its largest or smallest.
func pyInt(text string) (n int, ok bool) {
	n64, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil && n64 == 0 {
		return 0, false
	}
	return int(n64), true
}

// order reads sort, or the older sort_key and sort_dir. created_at and id
// always follow, in the direction of the first, and stand in the place of equal
// keys.
func (ps params) order(known []string, equal ...string) ([]block.SortKey, error) {
	sort, modern := ps.get("sort")
	key, hasKey := ps.get("sort_key")
	dir, hasDir := ps.get("sort_dir")
	if modern && (hasKey || hasDir) {
		return nil, invalid("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the " +
			"'sort' parameter.")
	}
	if !modern {
		if !hasKey {
			key = "created_at"
		}
		if !hasDir {
			dir = "desc"
		}
		sort = strings.TrimSpace(key) + ":" + strings.TrimSpace(dir)
	}
	var keys []block.SortKey
	var firstDesc, begun bool
	for part := range strings.SplitSeq(sort, ",") {
		column, dir, _ := strings.Cut(part, ":")
		column, dir = strings.TrimSpace(column), strings.TrimSpace(dir)
		if dir != "" && dir != "asc" && dir != "desc" {
			return nil, invalid("Invalid input received: Unknown sort direction, must be 'desc' or 'asc'.")
		}
		if !begun {
			begun, firstDesc = true, dir != "asc"
		}
		switch {
		case slices.Contains(equal, column):
			continue
		case !slices.Contains(known, column):
			return nil, invalid("Invalid input received: Invalid sort key")
		}
		if !slices.ContainsFunc(keys, func(k block.SortKey) bool { return k.Column == column }) {
			keys = append(keys, block.SortKey{Column: column, Desc: dir != "asc"})
		}
	}
	for _, last := range []string{"created_at", "id"} {
		if !slices.ContainsFunc(keys, func(k block.SortKey) bool { return k.Column == last }) {
			keys = append(keys, block.SortKey{Column: last, Desc: firstDesc})
		}
	}
	return keys, nil
}

// filter reads what is left of the parameters.
func (p *page) filter(admin bool) {
	p.query.Filters = map[string]string{}
	for _, e := range p.params {
		name := e.name
		switch name {
		case "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "project_id":
			continue
		}
		if !admin && !slices.Contains(p.of.filters, name) {
			continue
		}
		switch {
		case name == "metadata" && p.of.pairs == name:
			dict, ok := pyDict(e.value)
			p.none = p.none || !ok || len(dict) > maxPairs
			p.query.Metadata = dict
		case name == "consumes_quota": // every volume and snapshot does
			p.none = p.none || !loosely(e.value)
		case slices.Contains(p.of.booleans, name):
			p.query.Filters[name] = strconv.FormatBool(loosely(e.value))
		default:
			p.query.Filters[name] = e.value
		}
	}
}

// loosely reads a boolean as Cinder does before 3.2: all but these is true.
func loosely(text string) bool {
	return text != "false" && text != "False" && text != "FALSE"
}

// links writes the link to the page after last, if there may be one: where as
// many items were found as were asked for, and so also after a full last page.
func (p page) links(e *encoder, found int, last string) {
	if !p.more(found) {
		return
	}
	e.key(p.of.name)
	e.open('[')
	e.open('{')
	e.stringMember("rel", "next")
	e.stringMember("href", p.next(last))
	e.close('}')
	e.close(']')
}

// more reports whether there may be a page after one with so many items.
func (p page) more(found int) bool { return found >= p.query.Limit && (!p.of.linkAsked || p.asked) }

// next is the address of the page after an item.
func (p page) next(last string) string { return p.base + p.collection + "?" + p.params.encode(last) }

// flag reads a boolean parameter (cinder/api/api_utils.py, get_bool_param).
func (ps params) flag(name string) (bool, error) {
	text, given := ps.get(name)
	if !given {
		return false, nil
	}
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "1", "true", "yes", "on", "t", "y":
		return true, nil
	case "0", "false", "no", "off", "f", "n":
		return false, nil
	}
	return false, invalid("Value '%s' for '%s' is not a boolean.", text, name)
}

// queryFlag reads a boolean parameter of a request that is no list.
func (c *call) queryFlag(name string) (bool, error) {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return false, err
	}
	return ps.flag(name)
}
