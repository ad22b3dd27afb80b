package cinder

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"kvol/internal/block"
)

// Filters by more pairs than these fit nothing: no volume or snapshot has more
// metadata (Cinder's metadata_items), nor an image in practice, and the depth of
// SQLite's expressions ends at 1000.
const (
	maxPairs      = 128
	maxImagePairs = 900
)

// filterSince are the microversions from which filters mean something; before
// them they are dropped, if the list is not strict already, as it is from 3.31
// (cinder/api/common.py, process_general_filtering: since then nothing is
// dropped). What is not named was always there.
var filterSince = map[string]map[string]int{
	"volumes":     {"glance_metadata": 4, "group_id": 10, "created_at": 60, "updated_at": 60, "consumes_quota": 65},
	"snapshots":   {"metadata": 22, "created_at": 60, "updated_at": 60, "consumes_quota": 65},
	"types":       {"extra_specs": 52},
	"attachments": {},
	"messages":    {},
}

// filter3 reads what is left of the parameters as /v3 does (cinder/api/common.py,
// reject_invalid_filters; cinder/api/v3/volumes.py).
func (p *page) filter3(in edition, admin bool) error {
	p.query.Filters, p.query.Like = map[string]string{}, map[string]string{}
	strict := p.of.strict && in.since(max(31, p.of.strictAt))
	var refused []string
	for _, e := range p.params {
		if strict && strings.ContainsFunc(e.name, func(r rune) bool { return r > unicode.MaxASCII }) {
			return invalid("Filter keys can only contain ASCII characters.")
		}
		switch e.name {
		case "limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants":
			continue
		}
		switch {
		case e.name == "with_count" && in.since(45), e.name == "project_id" && admin, e.name == p.of.aside:
			continue
		case !admin && !slices.Contains(p.of.filters, e.name) && e.name != p.of.pairs:
			refused = append(refused, e.name)
			continue
		case !strict && in.minor < filterSince[p.of.path][e.name]:
			continue
		}
		if err := p.filterBy(in, e); err != nil {
			return err
		}
	}
	if len(refused) > 0 && strict {
		return invalid("Invalid filters %s are found in query options.", strings.Join(refused, ","))
	}
	return nil
}

func (p *page) filterBy(in edition, e param) error {
	column, like := strings.CutSuffix(e.name, "~")
	switch {
	case like && in.since(34):
		p.query.Like[column] = e.value
	case e.name == p.of.pairs:
		dict, ok := pyDict(e.value)
		p.none = p.none || !ok || len(dict) > maxPairs
		p.query.Metadata = dict
	case e.name == "glance_metadata" && p.of.path == volumeList.path:
		dict, ok := pyDict(e.value)
		p.none = p.none || !ok || len(dict) > maxImagePairs
		p.query.ImageMetadata = dict
	case e.name == "created_at" || e.name == "updated_at":
		bounds, err := timeBounds(e)
		p.query.Times = append(p.query.Times, bounds...)
		return err
	case e.name == "consumes_quota" || slices.Contains(p.of.booleans, e.name):
		value := loosely(e.value)
		if in.since(2) {
			var err error
			if value, err = strictly(e); err != nil {
				return err
			}
		}
		if e.name == "consumes_quota" { // every volume and snapshot does
			p.none = p.none || !value
			return nil
		}
		p.query.Filters[e.name] = strconv.FormatBool(value)
	default:
		p.query.Filters[e.name] = e.value
	}
	return nil
}

// strictly reads a boolean as Cinder does since 3.2.
func strictly(e param) (bool, error) {
	value, err := (params{e}).flag(e.name)
	if err != nil {
		return false, invalid("Invalid input received: '%s = %s'", e.name, e.value)
	}
	return value, nil
}

// timeForms are what Cinder's parser of ISO 8601 takes.
var timeForms = []string{"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999",
	"2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"}

// timeBounds reads "gt:2020-01-01T00:00:00,lte:2021-01-01" (cinder/api/v3/volumes.py,
// _handle_time_comparison_filters).
func timeBounds(e param) ([]block.TimeBound, error) {
	var bounds []block.TimeBound
	for unit := range strings.SplitSeq(e.value, ",") {
		operator, text, both := strings.Cut(unit, ":")
		if !both {
			text = operator
		}
		if !slices.Contains([]string{"gt", "gte", "eq", "neq", "lt", "lte"}, operator) {
			return nil, invalid("Invalid %s operator", operator)
		}
		at, ok := parseTime(text)
		if !ok {
			return nil, invalid("Invalid %s value", text)
		}
		bounds = slices.DeleteFunc(bounds, func(b block.TimeBound) bool { return b.Operator == operator }) // the last counts
		bounds = append(bounds, block.TimeBound{Column: e.name, Operator: operator, At: at})
	}
	return bounds, nil
}

func parseTime(text string) (time.Time, bool) {
	for _, form := range timeForms {
		if t, err := time.Parse(form, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// count says how many items fit on all pages, if that is wanted, as it may be
// since 3.45.
func (c *call) count(p page,
	of func(context.Context, block.Caller, block.ListQuery) (int64, error)) (n int64, wanted bool, err error) {
	if !c.view.since(45) {
		return 0, false, nil
	}
	if wanted, err = p.params.flag("with_count"); err != nil || !wanted {
		return 0, false, err
	}
	if p.none && p.query.Limit != 0 { // a filter fits nothing
		return 0, true, nil
	}
	n, err = of(c.r.Context(), c.caller, p.query)
	return n, true, err
}
