package recorded

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"kvol/internal/block"
)

// Answer is what was answered here.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
}

// Names are what the recorded Cinder called things and what they are called
// here. Compare learns the ids that both gave.
type Names map[string]string

// Here puts our names into a text of Cinder's.
func (n Names) Here(text string) string {
	for theirs, here := range n {
		text = strings.ReplaceAll(text, theirs, here)
	}
	return text
}

// Player compares answers. The zero value is not usable: Names must be there.
// It is for one goroutine.
type Player struct {
	Names Names
	// Types are the ends of per-type quotas of the recorded Cinder, and those here.
	Types map[string]string
}

// Compare complains of what differs in an answer to a recorded request.
func (p Player) Compare(x Exchange, a Answer) (complaints []string) {
	if a.Code != x.Code {
		return []string{fmt.Sprintf("status %d, Cinder %d: %s", a.Code, x.Code, a.Body)}
	}
	want := p.Names.Here(x.AnswerHeader["OpenStack-API-Version"])
	if got := a.Header.Get("OpenStack-API-Version"); got != want {
		complaints = append(complaints, "OpenStack-API-Version: "+got+", Cinder "+want)
	}
	var theirs, here any
	if strings.TrimSpace(x.Answer) == "" || json.Unmarshal([]byte(x.Answer), &theirs) != nil {
		return complaints
	}
	if err := json.Unmarshal(a.Body, &here); err != nil {
		return append(complaints, err.Error())
	}
	if x.Code >= http.StatusBadRequest {
		if want := p.Names.Here(fmt.Sprint(theirs)); consumed(fmt.Sprint(here)) != consumed(want) {
			complaints = append(complaints, fmt.Sprintf("error %v, Cinder %s", here, want))
		}
		return complaints
	}
	return append(complaints, p.compare("", theirs, here)...)
}

// consumed hides how much is in use, which is what was played before.
func consumed(sentence string) string {
	return inUse.ReplaceAllString(sentence, "all has been consumed")
}

var inUse = regexp.MustCompile(`\d+G has been consumed`)

// compare learns ids and complains of keys and types that are not alike. A
// null is of every type, and the members of metadata are not looked at.
func (p Player) compare(at string, theirs, here any) (complaints []string) {
	if theirs == nil || here == nil {
		return nil
	}
	switch theirs := theirs.(type) {
	case map[string]any:
		return p.compareMembers(at, theirs, here)
	case []any:
		here, ok := here.([]any)
		if !ok {
			return []string{at + " is no array"}
		}
		for i := range min(len(theirs), len(here)) {
			complaints = append(complaints, p.compare(at+"[]", theirs[i], here[i])...)
		}
	default:
		if fmt.Sprintf("%T", theirs) != fmt.Sprintf("%T", here) {
			return []string{fmt.Sprintf("%s is a %T, Cinder's a %T", at, here, theirs)}
		}
		p.learn(at, theirs, here)
	}
	return complaints
}

func (p Player) compareMembers(at string, theirs map[string]any, other any) (complaints []string) {
	here, ok := other.(map[string]any)
	if !ok {
		return []string{at + " is no object"}
	}
	theirs = p.withOurTypes(theirs)
	for k, v := range theirs {
		ours, ok := here[k]
		switch {
		case !ok && !free(at):
			complaints = append(complaints, at+"."+k+" is missing")
		case ok:
			complaints = append(complaints, p.compare(at+"."+k, v, ours)...)
		}
	}
	for k := range here {
		if _, ok := theirs[k]; !ok && !free(at) {
			complaints = append(complaints, at+"."+k+" is not Cinder's")
		}
	}
	return complaints
}

// learn remembers what an id, or the key of a transfer, is called here.
func (p Player) learn(at string, theirs, here any) {
	id, isText := theirs.(string)
	if _, ok := block.ParseID(id); isText && (ok && strings.HasSuffix(at, "id") || strings.HasSuffix(at, ".auth_key")) {
		if _, known := p.Names[id]; !known {
			p.Names[id], _ = here.(string)
		}
	}
}

// withOurTypes renames the per-type quotas in an object.
func (p Player) withOurTypes(theirs map[string]any) map[string]any {
	renamed := make(map[string]any, len(theirs))
	for k, v := range theirs {
		for end, ours := range p.Types {
			if resource, ok := strings.CutSuffix(k, end); ok {
				k = resource + ours
			}
		}
		renamed[k] = v
	}
	return renamed
}

// free reports whether the members of an object are up to tenants or to how a
// host reaches a volume.
func free(at string) bool {
	for _, name := range []string{".metadata", ".extra_specs", ".volume_image_metadata", ".connection_info",
		".connection_info.data"} {
		if strings.HasSuffix(at, name) {
			return true
		}
	}
	return false
}
