package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// tokenBytes of randomness make a token; 64 hex digits are what users see.
const tokenBytes = 32

// newToken makes a token and the hash under which it is kept.
func newToken() (token, hash string) {
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails, see crypto/rand
	token = hex.EncodeToString(raw)
	return token, tokenHash(token)
}

// tokenHash is what is stored of a token. Tokens are random, so a plain hash
// can't be turned back; and looking one up by hash tells by its timing nothing
// about the token.
func tokenHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

func newAuditID() string {
	raw := make([]byte, 16)
	rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// session is a token with whom and what it stands for.
type session struct {
	token   catalog.Token
	user    catalog.User
	project catalog.Project // zero if unscoped
	roles   []catalog.Role  // those implied included, by name
}

func (a session) scoped() bool { return a.token.Project != "" }

func (a session) has(role string) bool {
	return slices.ContainsFunc(a.roles, func(r catalog.Role) bool { return r.Name == role })
}

func (a session) roleNames() []string {
	names := make([]string, len(a.roles))
	for i, r := range a.roles {
		names[i] = r.Name
	}
	return names
}

// scope is what a token is asked for: a project by id, or by name; neither for
// an unscoped one.
type scope struct {
	projectID   block.ProjectID
	projectName string
}

var errUnauthorized = block.Errorf(block.Unauthorized, "The request you have made requires authentication.")

// login checks a user's password and opens a session. Unauthorized, in the
// words of checkPassword, for a project in which the user has no role too.
func (s *Service) login(ctx context.Context, user string, byID bool, password, remote string, where scope) (
	token string, a session, err error) {
	u, err := s.checkPassword(ctx, user, byID, password, remote)
	if err != nil {
		return "", session{}, err
	}
	t := catalog.Token{User: u.ID, Methods: []string{"password"}, AuditIDs: []string{newAuditID()}}
	return s.open(ctx, t, u.PasswordHash, where)
}

// checkPassword finds the user of a password. user is a name, or an id where
// byID. remote is the client's address, for the guess limits. Unauthorized, in
// the same words and the same time, for a wrong password, an unknown user and a
// disabled one; OverLimit (see RetryAfter) after too many failures.
func (s *Service) checkPassword(ctx context.Context, user string, byID bool, password, remote string) (
	catalog.User, error) {
	u, err := s.findUser(ctx, user, byID)
	if err != nil {
		return catalog.User{}, err
	}
	who := "name " + user
	if u.ID != "" {
		who = "id " + string(u.ID)
	}
	try, err := s.guard.begin(tokenHash(who), remote)
	if err != nil {
		return catalog.User{}, err
	}
	ok, err := s.hasher.verify(ctx, u.PasswordHash, password)
	if err != nil {
		try.forgive()
		return catalog.User{}, err
	}
	if !ok || !u.Enabled {
		return catalog.User{}, errUnauthorized
	}
	try.succeed()
	return u, nil
}

// findUser returns the zero User where there is none.
func (s *Service) findUser(ctx context.Context, user string, byID bool) (u catalog.User, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		if byID {
			u, err = tx.User(block.UserID(user))
		} else {
			u, err = tx.UserNamed(user)
		}
		return err
	})
	if block.Is(err, block.NotFound) {
		return catalog.User{}, nil
	}
	return u, err
}

// rescope opens a session of another scope on a token's strength; it ends when
// that one does.
func (s *Service) rescope(ctx context.Context, token string, where scope) (string, session, error) {
	old, err := s.session(ctx, token)
	if block.Is(err, block.NotFound) {
		return "", session{}, errUnauthorized
	}
	if err != nil {
		return "", session{}, err
	}
	t := catalog.Token{User: old.user.ID, Methods: []string{"token"}, ExpiresAt: old.token.ExpiresAt}
	for _, m := range old.token.Methods {
		if !slices.Contains(t.Methods, m) {
			t.Methods = append(t.Methods, m)
		}
	}
	// Keystone keeps the first of a chain of audit ids beside a token's own.
	t.AuditIDs = []string{newAuditID(), old.token.AuditIDs[len(old.token.AuditIDs)-1]}
	return s.open(ctx, t, old.user.PasswordHash, where)
}

// open gives out a token. hash is the password hash that the login was judged
// by: a password that was changed since then lets nobody in.
func (s *Service) open(ctx context.Context, t catalog.Token, hash string, where scope) (string, session, error) {
	token, kept := newToken()
	t.Hash = kept
	var a session
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		t.IssuedAt = tx.Now
		if t.ExpiresAt.IsZero() {
			t.ExpiresAt = tx.Now.Add(s.config.TokenTTL).Truncate(time.Second)
		}
		p, err := scopeProject(tx, where)
		if err != nil {
			return err
		}
		t.Project = p.ID
		if a, err = describe(tx, t); err != nil {
			return err
		}
		if a.user.PasswordHash != hash || a.scoped() && len(a.roles) == 0 {
			return errUnauthorized
		}
		return tx.InsertToken(t)
	})
	if block.Is(err, block.NotFound) {
		err = errUnauthorized
	}
	if err != nil {
		return "", session{}, err
	}
	return token, a, nil
}

func scopeProject(tx *catalog.Tx, where scope) (catalog.Project, error) {
	switch {
	case where.projectID != "":
		return tx.Project(where.projectID)
	case where.projectName != "":
		return tx.ProjectNamed(where.projectName)
	}
	return catalog.Project{}, nil
}

// describe finds whom and what a token stands for now. NotFound if the user or
// the project is disabled or gone: then the token is worth nothing.
func describe(tx *catalog.Tx, t catalog.Token) (session, error) {
	a := session{token: t}
	var err error
	if a.user, err = tx.User(t.User); err != nil {
		return session{}, err
	}
	if !a.user.Enabled {
		return session{}, block.Errorf(block.NotFound, "Failed to validate token")
	}
	if t.Project == "" {
		return a, nil
	}
	if a.project, err = tx.Project(t.Project); err != nil {
		return session{}, err
	}
	if !a.project.Enabled {
		return session{}, block.Errorf(block.NotFound, "Failed to validate token")
	}
	a.roles, err = effectiveRoles(tx, t.User, t.Project)
	return a, err
}

// implies is Keystone's default role hierarchy.
var implies = map[string]string{"admin": "member", "member": "reader"}

// effectiveRoles returns the roles that a user has in a project, implied ones
// included, by name.
func effectiveRoles(tx *catalog.Tx, user block.UserID, project block.ProjectID) ([]catalog.Role, error) {
	grants, err := tx.Grants(user, project)
	if err != nil || len(grants) == 0 {
		return nil, err
	}
	all, err := tx.Roles()
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for _, r := range all {
		if slices.ContainsFunc(grants, func(g catalog.Grant) bool { return g.Role == r.ID }) {
			for name := r.Name; name != ""; name = implies[name] {
				held[name] = true
			}
		}
	}
	return slices.DeleteFunc(all, func(r catalog.Role) bool { return !held[r.Name] }), nil
}

// session finds a token's session; NotFound if the token is unknown, expired,
// revoked, or its user or project disabled, or if all its roles were taken.
func (s *Service) session(ctx context.Context, token string) (a session, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err := tx.Token(tokenHash(token))
		if err != nil {
			return err
		}
		if a, err = describe(tx, t); err != nil {
			return err
		}
		if a.scoped() && len(a.roles) == 0 {
			return block.Errorf(block.NotFound, "Failed to validate token")
		}
		return nil
	})
	return a, err
}

// revoke ends a token.
func (s *Service) revoke(ctx context.Context, token string) error {
	defer s.cache.clear()
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DeleteToken(tokenHash(token)) })
}

// Authenticate returns the caller that a token stands for. Unauthorized if the
// token is unknown, expired, revoked or not scoped to a project. What other
// processes of the zone change is seen within a few seconds.
func (s *Service) Authenticate(ctx context.Context, token string) (block.Caller, error) {
	if token == "" || len(token) > maxTokenBytes {
		return block.Caller{}, errUnauthorized
	}
	hash := tokenHash(token)
	if c, ok := s.cache.get(hash); ok {
		return c, nil
	}
	generation := s.cache.generation()
	a, err := s.session(ctx, token)
	if block.Is(err, block.NotFound) || err == nil && !a.scoped() {
		return block.Caller{}, errUnauthorized
	}
	if err != nil {
		return block.Caller{}, err
	}
	c := block.Caller{Project: a.project.ID, User: a.user.ID, UserName: a.user.Name, Roles: a.roleNames()}
	s.cache.put(hash, c, a.token.ExpiresAt, generation)
	return c, nil
}

// maxTokenBytes is the longest token that is looked up (Keystone's own are
// below 300 bytes).
const maxTokenBytes = 1024
