package catalog

import (
	"testing"
	"time"

	"kvol/internal/block"
)

// identities is a catalog with a clock that tests move.
func identities(t *testing.T) (*Catalog, *time.Time) {
	t.Helper()
	now := time.Date(2026, 4, 29, 3, 32, 28, 0, time.UTC)
	c, err := Open(t.Context(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, &now
}

func inUpdate(t *testing.T, c *Catalog, fn func(tx *Tx) error) {
	t.Helper()
	if err := c.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// Users, projects and roles are found by id and by name, and two never share a
// name.
func TestNamesAreUnique(t *testing.T) {
	c, now := identities(t)
	u := User{ID: "u1", Name: "ann", Description: "d", PasswordHash: "h", Enabled: true, CreatedAt: *now}
	p := Project{ID: "p1", Name: "ours", Enabled: true, Configured: true, CreatedAt: *now}
	inUpdate(t, c, func(tx *Tx) error {
		for _, err := range []error{tx.InsertUser(u), tx.InsertProject(p), tx.InsertRole(Role{"r1", "member"}),
			tx.UpsertRole(Role{"r9", "member"}), tx.InsertUser(User{ID: "u2", Name: "bob", CreatedAt: *now})} {
			if err != nil {
				return err
			}
		}
		for what, err := range map[string]error{
			"user": tx.InsertUser(User{ID: "u3", Name: "ann"}), "project": tx.InsertProject(Project{ID: "p3", Name: "ours"}),
			"role": tx.InsertRole(Role{"r3", "member"}), "renamed": tx.UpdateUser(User{ID: "u2", Name: "ann"}),
		} {
			if !block.Is(err, block.Conflict) {
				t.Errorf("%s: %v, want a conflict", what, err)
			}
		}
		if got, err := tx.User("u1"); got != u || err != nil {
			t.Errorf("user: %+v, %v", got, err)
		}
		if got, err := tx.UserNamed("ann"); got != u || err != nil {
			t.Errorf("user by name: %+v, %v", got, err)
		}
		if got, err := tx.ProjectNamed("ours"); got != p || err != nil {
			t.Errorf("project: %+v, %v", got, err)
		}
		if got, err := tx.Roles(); len(got) != 1 || got[0].ID != "r1" || err != nil {
			t.Errorf("roles: %+v, %v", got, err)
		}
		_, err := tx.User("ann")
		if !block.Is(err, block.NotFound) {
			t.Errorf("a name in place of an id: %v", err)
		}
		return nil
	})
}

// A token is found until it expires; what it hangs on takes it away.
func TestTokens(t *testing.T) {
	c, now := identities(t)
	inUpdate(t, c, func(tx *Tx) error {
		for _, u := range []User{{ID: "u1", Name: "ann"}, {ID: "u2", Name: "bob"}} {
			if err := tx.InsertUser(u); err != nil {
				return err
			}
		}
		if err := tx.InsertProject(Project{ID: "p1", Name: "ours"}); err != nil {
			return err
		}
		for hash, token := range map[string]Token{"a": {User: "u1", Project: "p1"}, "b": {User: "u2", Project: "p1"},
			"c": {User: "u2"}, "d": {User: "u2"}} {
			token.Hash, token.Methods, token.AuditIDs = hash, []string{"password"}, []string{"x", "y"}
			token.IssuedAt, token.ExpiresAt = tx.Now, tx.Now.Add(time.Hour)
			if err := tx.InsertToken(token); err != nil {
				return err
			}
		}
		return tx.Grant(Grant{"u1", "p1", "r1"})
	})
	good := func(want string) {
		t.Helper()
		got := ""
		inUpdate(t, c, func(tx *Tx) error {
			got = ""
			for _, hash := range []string{"a", "b", "c", "d"} {
				token, err := tx.Token(hash)
				if err == nil && (len(token.AuditIDs) != 2 || token.Methods[0] != "password") {
					t.Errorf("token %s reads back as %+v", hash, token)
				}
				if err == nil {
					got += hash
				} else if !block.Is(err, block.NotFound) {
					return err
				}
			}
			return nil
		})
		if got != want {
			t.Errorf("good are %q, want %q", got, want)
		}
	}
	good("abcd")
	inUpdate(t, c, func(tx *Tx) error { return tx.DeleteUser("u1") })
	good("bcd")
	inUpdate(t, c, func(tx *Tx) error {
		if left, err := tx.Grants("", ""); len(left) > 0 || err != nil {
			t.Errorf("the deleted user's grants: %v, %v", left, err)
		}
		return tx.DeleteProject("p1")
	})
	good("cd")
	inUpdate(t, c, func(tx *Tx) error { return tx.DeleteToken("c") })
	good("d")
	*now = now.Add(time.Hour)
	good("")
	inUpdate(t, c, func(tx *Tx) error {
		if err := tx.SweepTokens(); err != nil {
			return err
		}
		var left int
		err := tx.queryRow("SELECT COUNT(*) FROM tokens").Scan(&left)
		if left != 0 {
			t.Errorf("%d tokens are left after the sweep", left)
		}
		return err
	})
}

// A role is taken away once, and goes with its grants.
func TestGrants(t *testing.T) {
	c, _ := identities(t)
	g := Grant{"u1", "p1", "r1"}
	inUpdate(t, c, func(tx *Tx) error {
		for _, err := range []error{tx.InsertRole(Role{"r1", "member"}), tx.Grant(g), tx.Grant(g),
			tx.Grant(Grant{"u1", "p2", "r1"}), tx.Grant(Grant{"u2", "p1", "r1"})} {
			if err != nil {
				return err
			}
		}
		for _, c := range []struct {
			user    block.UserID
			project block.ProjectID
			want    int
		}{{"", "", 3}, {"u1", "", 2}, {"", "p1", 2}, {"u1", "p1", 1}, {"u2", "p2", 0}} {
			if got, err := tx.Grants(c.user, c.project); len(got) != c.want || err != nil {
				t.Errorf("grants of %q in %q: %v, %v; want %d", c.user, c.project, got, err, c.want)
			}
		}
		if err := tx.Revoke(g); err != nil {
			return err
		}
		if err := tx.Revoke(g); !block.Is(err, block.NotFound) {
			t.Errorf("revoke again: %v", err)
		}
		if err := tx.DeleteRole("r1"); err != nil {
			return err
		}
		if left, err := tx.Grants("", ""); len(left) > 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
		return nil
	})
}

// The oldest tokens of a user who asks for ever more of them go.
func TestTokensAreBounded(t *testing.T) {
	c, now := identities(t)
	inUpdate(t, c, func(tx *Tx) error {
		for i := range kvolTokensKept + 5 {
			at := now.Add(time.Duration(i) * time.Second)
			err := tx.InsertKvolToken(KvolToken{Hash: at.String(), User: "g", IssuedAt: at, ExpiresAt: at.Add(time.Hour)})
			if err != nil {
				return err
			}
		}
		var left int
		if err := tx.queryRow("SELECT COUNT(*) FROM kvol_tokens").Scan(&left); err != nil {
			return err
		}
		if left != kvolTokensKept {
			t.Errorf("%d tokens are kept, want %d", left, kvolTokensKept)
		}
		_, err := tx.KvolToken(now.String())
		if !block.Is(err, block.NotFound) {
			t.Errorf("the oldest: %v", err)
		}
		return nil
	})
}
