package block

import (
	"cmp"
	"slices"
)

// NoProject is nobody's: what is asked for of it is never there. It stands for the
// project of a caller that has none, where "" would mean all projects.
const NoProject ProjectID = "(none)"

// ErrNoProject is the answer to a caller of no project that asks what is about its
// own: who it is is known, but there is nothing that is of no project.
var ErrNoProject = Errorf(Forbidden, "A token of a project is needed.")

// Caller is who asks, as the identity service vouches for it.
type Caller struct {
	// Project is "" for a caller by a token of a system, of a domain or of nothing.
	Project   ProjectID
	User      UserID
	UserName  string
	Roles     []string // "admin", "member", "reader", ...
	RequestID string   // "req-<uuid>", for logs and for the answer's headers
	// ServiceRoles are the roles of the service that passes on what the caller
	// wants (X-Service-Token); nil for none.
	ServiceRoles []string
	// Token is what the caller showed, for other services that are asked on its
	// behalf; "" where there are none.
	Token Token
	// UserDomain and ProjectDomain are ids; "" for the default domain.
	UserDomain, ProjectDomain string
	// System and Domain are what the token is of in the place of a project: all of
	// the system, or a domain by its id.
	System bool
	Domain string
	// Judge has the rules of the zone; nil for the default ones.
	Judge Judge
}

// Token is a secret: whoever has it can act as its user. It shows itself to no log
// and no encoder; string(t) is the token.
type Token string

func (Token) String() string { return "***" }

// GoString implements fmt.GoStringer.
func (Token) GoString() string { return "***" }

// MarshalText implements encoding.TextMarshaler.
func (Token) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Judge decides by rules who may do what. It is an interface since the rules
// stand above the nouns.
type Judge interface {
	// Allows says whether a rule lets the caller do something to a target whose
	// attributes are known by name; a rule that is not there is decided as the one
	// that otherwise names.
	Allows(c Caller, rule, otherwise string, target func(name string) (string, bool)) bool
	// Admin says whether the caller may see and do what operators may.
	Admin(c Caller) bool
}

// Has reports whether the caller holds a role in its project.
func (c Caller) Has(role string) bool { return slices.Contains(c.Roles, role) }

// Own is the project whose things are the caller's: NoProject if it has none.
func (c Caller) Own() ProjectID { return cmp.Or(c.Project, NoProject) }

// Admin reports whether the caller may see and do what operators may (Cinder's
// context_is_admin: role:admin unless its judge has another rule).
func (c Caller) Admin() bool {
	if c.Judge != nil {
		return c.Judge.Admin(c)
	}
	return c.Has("admin")
}

// ReadOnly reports whether the caller may look but not touch: a reader that is
// neither member nor admin.
func (c Caller) ReadOnly() bool { return !c.Admin() && !c.Has("member") }
