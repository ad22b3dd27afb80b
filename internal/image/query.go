package image

import (
	"net/url"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// maxFilters bound the filters and tags of a list.
const maxFilters = 64

// parseQuery reads the parameters of GET /v2/images; Invalid where they are
// malformed. Parameters that are no attribute filter by properties.
func parseQuery(raw string) (catalog.ImageQuery, error) {
	q := catalog.ImageQuery{Limit: pageDefault, Filters: map[string]string{}}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, block.Wrap(block.Invalid, err, "The query is malformed.")
	}
	if len(values) > maxFilters || len(values["tag"]) > maxFilters {
		return q, block.Errorf(block.Invalid, "There are too many filters.")
	}
	for name := range values {
		if err := oneParameter(&q, name, values.Get(name), values[name]); err != nil {
			return q, err
		}
	}
	return q, parseSort(&q, values)
}

func oneParameter(q *catalog.ImageQuery, name, value string, all []string) error {
	switch name {
	case "limit":
		n, err := number(value, name)
		q.Limit = int(min(n, pageMax))
		return err
	case "marker":
		q.Marker = block.ImageID(value)
	case "tag":
		q.Tags = all
	case "size_min", "size_max":
		n, err := number(value, name)
		if name == "size_min" {
			q.SizeMin = &n
		} else {
			q.SizeMax = &n
		}
		return err
	case "visibility":
		q.Community = value == "all" || value == "community"
		if value != "all" {
			q.Filters[name] = value
		}
	case "sort", "sort_key", "sort_dir", "member_status", "os_hidden":
	default:
		q.Filters[name] = value
	}
	return nil
}

// parseSort reads sort=name:asc,size:desc, or sort_key and sort_dir, each of
// which may come again and again.
func parseSort(q *catalog.ImageQuery, values url.Values) error {
	keys, directions := values["sort_key"], values["sort_dir"]
	if text := values.Get("sort"); text != "" {
		keys, directions = nil, nil
		for _, one := range strings.Split(text, ",") {
			key, direction, ok := strings.Cut(strings.TrimSpace(one), ":")
			if !ok {
				direction = "desc"
			}
			keys, directions = append(keys, key), append(directions, direction)
		}
	}
	if len(keys) > maxFilters {
		return block.Errorf(block.Invalid, "There are too many sort keys.")
	}
	for i, key := range keys {
		direction := "desc"
		if i < len(directions) {
			direction = directions[i]
		} else if len(directions) == 1 {
			direction = directions[0]
		}
		if direction != "asc" && direction != "desc" {
			return block.Errorf(block.Invalid, "Invalid sort direction: %s", direction)
		}
		q.Sort = append(q.Sort, block.SortKey{Column: key, Desc: direction == "desc"})
	}
	if len(keys) == 0 && len(directions) == 1 && directions[0] == "asc" {
		q.Sort = []block.SortKey{{Column: "created_at"}}
	}
	return nil
}
