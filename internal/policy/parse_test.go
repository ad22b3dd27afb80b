package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/policy"
)

// things are what the tests' rules are asked about.
func things(name string) (string, bool) {
	value, ok := map[string]string{"project_id": "p1", "user_id": "u2", "status": "available", "bootable": "True"}[name]
	return value, ok
}

// ask reads a check, in either form, and asks it.
func ask(t *testing.T, check string, c block.Caller) bool {
	t.Helper()
	rules, _, err := policy.Parse([]byte("x: "+check+"\nown: \"project_id:%(project_id)s\"\n"), false)
	if err != nil {
		t.Fatalf("%s: %v", check, err)
	}
	return rules.Allows(c, "x", "none", things)
}

// TestLanguage asks checks of every form. The expectations were compared with
// oslo.policy's own evaluator.
func TestLanguage(t *testing.T) {
	member := block.Caller{Project: "p1", User: "u1", Roles: []string{"member"}, ServiceRoles: []string{"service"}}
	for _, c := range []struct {
		check string
		want  bool
	}{
		{`""`, true}, {`"@"`, true}, {`"!"`, false}, {`"not !"`, true}, {`"not not !"`, false},
		{`"role:member"`, true}, {`"role:MEMBER"`, true}, {`"role:reader"`, true}, {`"role:admin"`, false},
		{`"role:%(no)s"`, false},
		{`"rule:own"`, true}, {`"rule:nowhere"`, false},
		{`"project_id:%(project_id)s"`, true}, {`"tenant:%(project_id)s"`, true}, {`"user_id:%(user_id)s"`, false},
		{`"project_id:p1"`, true}, {`"project_id:p%(nothing)s"`, false}, {`"unknown:%(project_id)s"`, false},
		{`"True:%(bootable)s"`, true}, {`"False:%(bootable)s"`, false}, {`"'available':%(status)s"`, true},
		{`"is_admin:False"`, true}, {`"is_admin:True"`, false}, {`"is_admin_project:True"`, true},
		{`"roles:member"`, true}, {`"service_roles:service"`, true}, {`"service_roles:other"`, false},
		{`"'100%':100%%"`, true}, {`"5:5"`, true}, {`"None:None"`, true},
		{`"! or @ and @"`, true}, {`"@ or @ and !"`, true}, {`"(@ or @) and !"`, false}, {`"not ! and !"`, false},
		{`"not (! and !)"`, true}, {`"((role:member))"`, true}, {`"(role:admin or (role:member AND not !))"`, true},
		{`[]`, true}, {`[[]]`, false}, {`["role:member"]`, true}, {`[["role:member", "!"], ["@"]]`, true},
		{`[["role:member", "!"], ["role:admin"]]`, false}, {`[["role:member", "rule:own"]]`, true},
	} {
		if got := ask(t, c.check, member); got != c.want {
			t.Errorf("%s: %t", c.check, got)
		}
	}
}

// TestRefused keeps texts out that are no checks, with a sentence that says
// where.
func TestRefused(t *testing.T) {
	for check, sentence := range map[string]string{
		`"role"`: "no check", `"("`: "it ends", `"(@"`: "not closed", `"@)"`: "left over", `"@ @"`: "left over",
		`"and"`: "stands where", `"@ or"`: "it ends", `"not"`: "it ends", `":x"`: "names nothing",
		`"http://server/check"`: "would ask a server", `"https://x"`: "would ask a server",
		`"project_id:%(project_id)d"`: "(name)s", `"project_id:%s"`: "(name)s", `"project_id:%(a"`: "(name)s",
		`"'a b'"`: "no check", `{a: b}`: "neither", `7`: "neither", `[[7]]`: "no check", `[{a: b}]`: "neither",
		`"rule:x"`: "goes on to itself", `"not rule:y"` + "\ny: \"rule:x\"": "goes on to itself",
		`"` + strings.Repeat("(", 100) + `@"`:      "nested",
		`"` + strings.Repeat("not ", 100) + `@"`:   "nested",
		`"` + strings.Repeat("@ or ", 4000) + `@"`: "longer",
		"[": "", "\tx: y": "",
	} {
		_, _, err := policy.Parse([]byte("x: "+check+"\n"), false)
		if err == nil || !strings.Contains(err.Error(), sentence) {
			t.Errorf("%.60s: %v", check, err)
		}
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, "r%d: '@'\n", i)
	}
	if _, _, err := policy.Parse([]byte(many.String()), false); err == nil {
		t.Error("5000 rules are taken")
	}
}

// FuzzParse gives the reader arbitrary files: whatever it takes can be asked
// and ends.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "x: '@'", "a: 'rule:b'\nb: 'rule:a'", "x: [['role:a', '!']]",
		"x: \"not (role:a or rule:admin_api) and True:%(bootable)s\"", "default: '!'\ny: 'a.b:%(x)s%%'", "{\"x\": \"\"}",
	} {
		f.Add(seed)
	}
	caller := block.Caller{Project: "p1", User: "u1", Roles: []string{"a"}}
	f.Fuzz(func(t *testing.T, text string) {
		rules, _, err := policy.Parse([]byte(text), len(text)%2 == 0)
		if err != nil {
			return
		}
		first := rules.Allows(caller, "x", "y", things)
		if rules.Allows(caller, "x", "y", things) != first {
			t.Error("the same question has two answers")
		}
	})
}
