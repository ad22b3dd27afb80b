package cinder

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// maxMinor is the newest microversion that is served, 3.N. It is a promise:
// clients negotiate up to it. docs/api/microversions.md says what each of those
// below brings here.
const maxMinor = 71

// The headers of microversions (the API working group's guideline).
const (
	versionHeader = "OpenStack-API-Version"
	minVersion    = "3.0"
)

var maxVersion = "3." + strconv.Itoa(maxMinor)

// edition is the version of the API that a request is made in. The zero value
// is /v2.
type edition struct {
	v3    bool
	minor int // of v3
	// short is a path that names no project; links in its answer name none either
	// (cinder/api/common.py, _get_project_id_in_url).
	short bool
}

// since reports whether microversion 3.n or a newer one was asked for.
func (e edition) since(n int) bool { return e.v3 && e.minor >= n }

type editionKey struct{}

func editionOf(ctx context.Context) edition {
	e, _ := ctx.Value(editionKey{}).(edition)
	return e
}

var versionForm = regexp.MustCompile(`^([1-9]\d*)\.([1-9]\d*|0)$`)

// negotiate reads which microversion is wanted, 3.0 where none is named, and
// sets what the answer must say about it (cinder wsgi.py,
// set_api_version_request). Services other than "volume" mean nothing here, but
// a header that names only them is refused, as Cinder does.
func negotiate(w http.ResponseWriter, r *http.Request) (minor int, err error) {
	w.Header().Set("Vary", versionHeader)
	wanted := minVersion
	if lines := r.Header.Values(versionHeader); len(lines) > 0 {
		wanted = ""
		for item := range strings.SplitSeq(strings.Join(lines, ","), ",") {
			if service, version, ok := strings.Cut(strings.TrimSpace(item), " "); ok && service == "volume" {
				wanted = strings.TrimSpace(version)
			}
		}
		if wanted == "" {
			return 0, &fault{http.StatusBadRequest, "The server could not comply with the request since it is " +
				"either malformed or otherwise incorrect."}
		}
	}
	if wanted == "latest" {
		wanted = maxVersion
	}
	parts := versionForm.FindStringSubmatch(wanted)
	if parts == nil {
		return 0, invalid("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", wanted)
	}
	major, err1 := strconv.Atoi(parts[1])
	minor, err2 := strconv.Atoi(parts[2])
	if major >= 3 {
		w.Header().Set(versionHeader, "volume "+wanted)
	}
	if err1 != nil || err2 != nil || major != 3 || minor > maxMinor {
		return 0, &fault{http.StatusNotAcceptable, fmt.Sprintf("Version %s is not supported by the API. "+
			"Minimum is %s and maximum is %s.", wanted, minVersion, maxVersion)}
	}
	return minor, nil
}

// projectForm is what a first step of a path below /v3 looks like if it is a
// project (Cinder's option project_id_regex); other steps are collections.
var projectForm = regexp.MustCompile(`^[0-9a-f-]+$`)

// hasProject reports whether a path below /v3 names a project.
func hasProject(r *http.Request) bool {
	step, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v3/"), "/")
	return projectForm.MatchString(step)
}

// withProject returns r with the caller's project in a path that has none,
// which is how every microversion may be asked since 3.67 is known.
func withProject(r *http.Request, project string) *http.Request {
	rest := strings.TrimPrefix(r.URL.Path, "/v3/")
	if hasProject(r) {
		return r
	}
	u := *r.URL
	u.Path = "/v3/" + project + "/" + rest
	if u.RawPath != "" {
		u.RawPath = "/v3/" + project + "/" + strings.TrimPrefix(u.RawPath, "/v3/")
	}
	long := *r
	long.URL = &u
	return &long
}
