package cinder

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/api/openapi"
)

// notes say of a route what its place in the table of routes does not.
type notes struct {
	summary string
	list    *listing // how the collection is listed
	query   []string // parameters beside those; "name: what it means"
	body    func(edition) *schema
	actions map[string]action // of a body with one of these members
	status  int               // of success; 0: 200
	answer  shape             // of success; nil: no body
	also    shape             // of another success, 200 where status is 202
	plain   bool              // the answer is text
}

// reader writes a document. One that is exact is of one microversion: what that
// has not is left out. Otherwise it is of all up to its edition, and what newer
// ones brought need not be there.
type reader struct {
	edition
	exact bool
}

// shape is what an answer's JSON is in an edition.
type shape func(reader) openapi.Schema

// field is a member of an object in an answer.
type field struct {
	name  string
	of    shape
	since int  // the microversion that brought it
	maybe bool // not everybody sees it, or not always
}

func is(s openapi.Schema) shape { return func(reader) openapi.Schema { return s } }

func f(name string, of shape) field { return field{name: name, of: of} }

func from3(since int, name string, of shape) field { return field{name: name, of: of, since: since} }

// some makes fields of which not all must be there.
func some(fields ...field) []field {
	for i := range fields {
		fields[i].maybe = true
	}
	return fields
}

// object has these members and no others.
func obj(groups ...[]field) shape {
	fields := slices.Concat(groups...)
	return func(r reader) openapi.Schema {
		members, optional := map[string]openapi.Schema{}, []string{}
		for _, f := range fields {
			if f.since > r.minor {
				continue
			}
			s := f.of(r)
			if f.since > 0 && !r.exact {
				s = s.With("description", "since 3."+strconv.Itoa(f.since))
			}
			members[f.name] = s
			if f.maybe || f.since > 0 && !r.exact {
				optional = append(optional, f.name)
			}
		}
		return openapi.Object(members, optional...)
	}
}

func all(fields ...field) []field { return fields }

// under is an object with one member.
func under(name string, of shape) shape { return obj(all(f(name, of))) }

func many(of shape) shape { return func(r reader) openapi.Schema { return openapi.List(of(r)) } }

// listed is a page of a collection: its items, and the link to the next page.
func listed(name string, of shape, links string, more ...field) shape {
	fields := all(f(name, many(of)))
	if links != "" {
		fields = append(fields, some(f(links, many(obj(all(f("href", text), f("rel", text))))))...)
	}
	return obj(fields, more)
}

// edited is for answers that /v2 and /v3 do not have in common.
func edited(v2, v3 shape) shape {
	return func(r reader) openapi.Schema {
		if r.v3 {
			return v3(r)
		}
		return v2(r)
	}
}

// describedRoutes are all operations below the project: what is served, and
// what the documents describe.
func describedRoutes() []route {
	return slices.Concat(routes, groupRoutes, manageRoutes, transferRoutes, backupRoutes)
}

// notes is what is said of a route.
func (rt route) notes() (about notes, ok bool) {
	for _, table := range []map[string]notes{descriptions, typeDescriptions, deploymentDescriptions,
		groupDescriptions, backupDescriptions, manageDescriptions} {
		if about, ok = table[rt.method+" "+rt.pattern]; ok {
			return about, true
		}
	}
	return notes{summary: "not described"}, false
}

// Document describes /v2, or /v3 in all its microversions. options are those of
// the front end that change what answers hold.
func Document(v3 bool, options Config) *openapi.Document {
	return document(reader{edition: edition{v3: v3, minor: map[bool]int{true: maxMinor}[v3]}}, options)
}

// DocumentOf describes exactly microversion 3.minor.
func DocumentOf(minor int, options Config) *openapi.Document {
	return document(reader{edition: edition{v3: true, minor: minor}, exact: true}, options)
}

func document(r reader, options Config) *openapi.Document {
	root, version := "/v2/{project}", "2.0"
	about := "Block storage, version 2."
	if r.v3 {
		root, version = "/v3/{project}", "3."+strconv.Itoa(r.minor)
		about = fmt.Sprintf("Block storage, version 3, in its microversions 3.0 to 3.%d. Which one is meant is said by the "+
			"header OpenStack-API-Version: volume 3.N; 3.0 without it. Operations, parameters and members name the "+
			"microversion that brought them. The project may be left out of paths.", maxMinor)
	}
	d := openapi.New(openapi.Info{Title: "Block storage v" + root[2:3], Description: about, Version: version},
		map[string]openapi.SecurityScheme{"token": {Type: "apiKey", In: "header", Name: "X-Auth-Token",
			Description: "a token of the identity service"}})
	for _, rt := range describedRoutes() {
		if !r.v3 && rt.since > 0 || rt.since > r.minor {
			continue
		}
		about, _ := rt.notes() // a test complains where there is none
		d.Add(rt.method, root+rt.pattern, r.operation(rt, about, options.V2ExtraFields))
	}
	return d
}

func (r reader) operation(rt route, about notes, extra bool) *openapi.Operation {
	tag, _, _ := strings.Cut(strings.TrimPrefix(rt.pattern, "/"), "/")
	o := &openapi.Operation{Summary: about.summary, Tags: []string{tag}, Parameters: r.parameters(about),
		Responses: map[string]openapi.Response{"default": {Description: "a failure", Content: openapi.JSON(failure)}}}
	if rt.since > 0 {
		o.Description = "Since 3." + strconv.Itoa(rt.since) + "."
	}
	if r.v3 {
		o.Parameters = append(o.Parameters, openapi.Parameter{Name: versionHeader, In: "header", Schema: openapi.Text,
			Description: "volume 3.N or volume latest"})
	}
	switch {
	case about.actions != nil:
		o.RequestBody = &openapi.Body{Required: true, Content: openapi.JSON(r.actionBody(about.actions))}
	case about.body != nil:
		o.RequestBody = &openapi.Body{Required: true, Content: openapi.JSON(about.body(r.edition).document())}
	}
	status := about.status
	if status == 0 {
		status = http.StatusOK
	}
	success := openapi.Response{Description: http.StatusText(status)}
	if about.answer != nil {
		success.Content = openapi.JSON(r.loose(about.answer(r), extra))
	}
	if about.plain {
		success.Content = map[string]openapi.Media{"application/json": {Schema: openapi.Any}}
	}
	o.Responses[openapi.Status(status)] = success
	if about.also != nil {
		o.Responses["200"] = openapi.Response{Description: "OK; some actions answer so", Content: openapi.JSON(about.also(r))}
	}
	return o
}

// loose lets /v2 answer with members that only an operator's option brings.
func (r reader) loose(s openapi.Schema, extra bool) openapi.Schema {
	if r.v3 || !extra {
		return s
	}
	return openapi.Schema{"type": "object"}
}

// failure is what every operation answers that does not succeed: a name for
// the kind of failure, and under it what happened.
var failure = openapi.Schema{"type": "object", "minProperties": 1, "maxProperties": 1,
	"additionalProperties": openapi.Object(map[string]openapi.Schema{"code": openapi.Whole, "message": openapi.Text,
		"title": openapi.Text, "retryAfter": openapi.Text}, "title", "retryAfter")}

// actionBody is an object with one action and its argument.
func (r reader) actionBody(actions map[string]action) openapi.Schema {
	either := []openapi.Schema{}
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		either = append(either, openapi.Object(map[string]openapi.Schema{name: actions[name].argument(r.edition).document()}))
	}
	return openapi.Schema{"oneOf": either}
}

func (r reader) parameters(about notes) []openapi.Parameter {
	var all []openapi.Parameter
	add := func(name, what string) {
		all = append(all, openapi.Parameter{Name: name, In: "query", Description: what, Schema: openapi.Text})
	}
	for _, q := range about.query {
		name, what, _ := strings.Cut(q, ": ")
		add(name, what)
	}
	if about.list == nil {
		return all
	}
	add("limit", fmt.Sprintf("how many items at most, 0 to %d", maxPage))
	add("marker", "the id of the item after which the page begins")
	add("offset", "how many items are passed over")
	add("sort", "key:direction, several with commas; keys are "+strings.Join(about.list.sort, ", "))
	add("sort_key", "instead of sort, older")
	add("sort_dir", "asc or desc, with sort_key")
	add("all_tenants", "of all projects; for administrators")
	for _, name := range about.list.filters {
		what := "only items that have this"
		if since := filterSince[about.list.path][name]; since > 0 && r.v3 {
			what += "; since 3." + strconv.Itoa(since)
		}
		add(name, what)
	}
	return all
}
