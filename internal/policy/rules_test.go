package policy_test

import (
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/policy"
)

func as(roles ...string) block.Caller { return block.Caller{Project: "p1", User: "u1", Roles: roles} }

func mustParse(t *testing.T, text string, olds bool) (*policy.Rules, []string) {
	t.Helper()
	rules, warnings, err := policy.Parse([]byte(text), olds)
	if err != nil {
		t.Fatal(err)
	}
	return rules, warnings
}

// TestDefaults says who may what by Cinder's defaults, and by those that it had
// before it told readers from members.
func TestDefaults(t *testing.T) {
	olds, _ := mustParse(t, "", true)
	for _, c := range []struct {
		rule          string
		caller        block.Caller
		want, earlier bool
	}{
		{"volume:create", as("admin"), true, true}, {"volume:create", as("member"), true, true},
		{"volume:create", as("reader"), false, true}, {"volume:get_all", as("reader"), true, true},
		{"volume:get_all", as("stranger"), false, true}, {"volume:delete", as("reader"), false, true},
		{"volume_extension:services:index", as("member"), false, false},
		{"volume_extension:services:index", as("admin"), true, true},
		{"volume_extension:type_get", as(), false, true},
		{"context_is_admin", as("admin"), true, true}, {"context_is_admin", as("member"), false, false},
	} {
		if got := policy.Default().Allows(c.caller, c.rule, "", policy.Self(c.caller)); got != c.want {
			t.Errorf("%s by %v: %t", c.rule, c.caller.Roles, got)
		}
		if got := olds.Allows(c.caller, c.rule, "", policy.Self(c.caller)); got != c.earlier {
			t.Errorf("%s by %v, as before: %t", c.rule, c.caller.Roles, got)
		}
	}
}

// TestOperatorsRules puts rules of an operator over the defaults.
func TestOperatorsRules(t *testing.T) {
	rules, warnings := mustParse(t, `
"context_is_admin": "role:cloud"
"volume:delete": "user_id:%(user_id)s"
"volume_extension:types_manage": "role:librarian"
"volume_extension:volume_type_encryption": "rule:helper"
"helper": "role:keeper or rule:missing"
"volume:dlete": "@"
`, false)
	want := []string{"helper goes on to the rule missing, which is not there: it never holds",
		"there is no rule volume:dlete: nothing asks for it"}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings: %q", warnings)
	}
	cloud := rules.Judging(as("cloud"))
	if !cloud.Admin() || !cloud.Has("admin") || rules.Judging(as("admin")).Admin() {
		t.Error("context_is_admin does not decide who is an administrator")
	}
	of := func(user string) policy.Target {
		return func(name string) (string, bool) { return user, name == "user_id" }
	}
	if !rules.Allows(as("member"), "volume:delete", "", of("u1")) ||
		rules.Allows(as("member"), "volume:delete", "", of("u2")) {
		t.Error("the target's user does not decide")
	}
	for _, rule := range []string{"volume_extension:type_create", "volume_extension:type_delete"} {
		if !rules.Allows(as("librarian"), rule, "", nil) || rules.Allows(as("member"), rule, "", nil) {
			t.Errorf("%s is not decided by its old name", rule)
		}
	}
}

// TestScopes names what tokens are of in rules.
func TestScopes(t *testing.T) {
	rules, _ := mustParse(t, `
"context_is_admin": "role:admin and (system_scope:all or project_domain_id:ops)"
"system": "system_scope:all"
"domain": "domain_id:d"
"of a domain": "project_domain_id:default"
"none": "system_scope:None and domain_id:None"
`, false)
	admin := block.Caller{User: "u", Roles: []string{"admin"}}
	system, domain, ops := admin, admin, admin
	system.System, domain.Domain, ops.Project, ops.ProjectDomain = true, "d", "p", "ops"
	for who, want := range map[*block.Caller][]string{&admin: {"none"}, &system: {"admin", "system"},
		&domain: {"domain"}, &ops: {"admin", "none"}} {
		var got []string
		if rules.Admin(*who) {
			got = append(got, "admin")
		}
		for _, rule := range []string{"system", "domain", "of a domain", "none"} {
			if rules.Allows(*who, rule, "", policy.Self(*who)) {
				got = append(got, rule)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %q, want %q", *who, got, want)
		}
		if !policy.Default().Admin(*who) {
			t.Errorf("%+v is no administrator", *who)
		}
	}
}

// TestUnknownRule decides rules of ours that Cinder does not have.
func TestUnknownRule(t *testing.T) {
	if !policy.Default().Allows(as("admin"), "kvol:x", "admin_api", nil) ||
		policy.Default().Allows(as("member"), "kvol:x", "admin_api", nil) {
		t.Error("a rule that is not there is not decided by the other one")
	}
	rules, _ := mustParse(t, `{"default": "role:member"}`, false)
	if !rules.Allows(as("member"), "kvol:x", "admin_api", nil) {
		t.Error("the operator's default does not decide")
	}
	if _, _, err := policy.Parse([]byte(`{"default": "rule:default"}`), false); err == nil ||
		!strings.Contains(err.Error(), "itself") {
		t.Errorf("a default that goes on to itself: %v", err)
	}
}

func BenchmarkAllows(b *testing.B) {
	c := as("member")
	for b.Loop() {
		if !policy.Default().Allows(c, "volume:get", "", policy.Self(c)) {
			b.Fatal("refused")
		}
	}
}
