package block

import "slices"

// Caller is who asks, as the identity service vouches for it.
type Caller struct {
	Project   ProjectID
	User      UserID
	UserName  string
	Roles     []string // "admin", "member", "reader", ...
	RequestID string   // "req-<uuid>", for logs and for the answer's headers
}

// Has reports whether the caller holds a role in its project.
func (c Caller) Has(role string) bool { return slices.Contains(c.Roles, role) }

// Admin reports whether the caller may see and do what operators may (Cinder's
// context_is_admin: role:admin).
func (c Caller) Admin() bool { return c.Has("admin") }

// ReadOnly reports whether the caller may look but not touch: a reader that is
// neither member nor admin.
func (c Caller) ReadOnly() bool { return !c.Admin() && !c.Has("member") }
