package policy

import (
	"cmp"
	"slices"
	"strings"

	"kvol/internal/block"
)

// Target tells the attributes of what is acted on, by Cinder's names
// (project_id, user_id, status, ...). Nil has none.
type Target = func(name string) (value string, ok bool)

// question is one caller who asks about one target.
type question struct {
	rules  *Rules
	caller block.Caller
	target Target
}

func (q *question) attribute(name string) (string, bool) {
	if q.target == nil {
		return "", false
	}
	return q.target(name)
}

// check is a rule that was read. Checks are immutable.
type check interface {
	holds(q *question) bool
	// refers calls fn with the name of each rule that the check goes on to.
	refers(fn func(string))
}

type (
	constant bool
	all      []check
	some     []check
	negation struct{ of check }
	roleIs   struct{ name template }
	ruleIs   string
	// literalIs compares a constant, attributeIs something that is known of the
	// caller.
	literalIs struct {
		value string
		match template
	}
	attributeIs struct {
		name  string
		match template
	}
)

func (c constant) holds(*question) bool { return bool(c) }
func (constant) refers(func(string))    {}

func (c all) holds(q *question) bool {
	for _, each := range c {
		if !each.holds(q) {
			return false
		}
	}
	return true
}

func (c all) refers(fn func(string)) {
	for _, each := range c {
		each.refers(fn)
	}
}

func (c some) holds(q *question) bool {
	for _, each := range c {
		if each.holds(q) {
			return true
		}
	}
	return false
}

func (c some) refers(fn func(string)) { all(c).refers(fn) }

func (c negation) holds(q *question) bool { return !c.of.holds(q) }
func (c negation) refers(fn func(string)) { c.of.refers(fn) }

func (c roleIs) holds(q *question) bool {
	name, ok := c.name.fill(q)
	return ok && holdsRole(q.caller.Roles, name)
}
func (roleIs) refers(func(string)) {}

// holds is false for a rule that is not there, as in oslo.policy without a
// rule of the name "default".
func (c ruleIs) holds(q *question) bool {
	next, ok := q.rules.find(string(c))
	return ok && next.holds(q)
}
func (c ruleIs) refers(fn func(string)) { fn(string(c)) }

func (c literalIs) holds(q *question) bool {
	text, ok := c.match.fill(q)
	return ok && text == c.value
}
func (literalIs) refers(func(string)) {}

func (c attributeIs) holds(q *question) bool {
	text, ok := c.match.fill(q)
	if !ok {
		return false
	}
	switch c.name {
	case "roles":
		return holdsRole(q.caller.Roles, text)
	case "service_roles":
		return slices.Contains(q.caller.ServiceRoles, text)
	case "is_admin":
		return text == pythonBool(q.rules.Admin(q.caller))
	}
	value, ok := credential(q.caller, c.name)
	return ok && value == text
}
func (attributeIs) refers(func(string)) {}

// credential is what oslo.context tells of a caller; what there is not is Python's
// None, but a project that there is not is "", as in a Target. Each project is an admin's.
func credential(c block.Caller, name string) (string, bool) {
	switch name {
	case "project_id", "tenant", "tenant_id":
		return string(c.Project), true
	case "user_id", "user":
		return string(c.User), true
	case "user_name", "username":
		return c.UserName, c.UserName != ""
	case "user_domain_id":
		return cmp.Or(c.UserDomain, "default"), true
	case "project_domain_id":
		if c.Project == "" {
			return none, true
		}
		return cmp.Or(c.ProjectDomain, "default"), true
	case "is_admin_project":
		return "True", true
	case "domain_id":
		return cmp.Or(c.Domain, none), true
	case "system_scope":
		if c.System {
			return "all", true
		}
		return none, true
	}
	return "", false
}

const none = "None"

// holdsRole ignores the case of roles, as oslo.policy does. An admin is a
// member too and a member a reader, as the roles that Keystone makes imply.
func holdsRole(roles []string, name string) bool {
	for _, r := range roles {
		switch {
		case strings.EqualFold(r, name):
			return true
		case strings.EqualFold(r, "admin"):
			if strings.EqualFold(name, "member") || strings.EqualFold(name, "reader") {
				return true
			}
		case strings.EqualFold(r, "member") && strings.EqualFold(name, "reader"):
			return true
		}
	}
	return false
}

func pythonBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}
