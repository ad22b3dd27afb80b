package kvol_test

import (
	"go/ast"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// drRules is how many rules docs/dr-rules.md has.
const drRules = 25

var (
	ruleRow  = regexp.MustCompile(`(?m)^\| (\d+) \|(.*)$`)
	ruleTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`")
)

// TestRulesHaveTests: each rule of docs/dr-rules.md names tests, and all of them
// are in the tree.
func TestRulesHaveTests(t *testing.T) {
	text, err := os.ReadFile("docs/dr-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, s := range sources(t) {
		if !strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		dir := path.Dir(s.path)
		if inner, ok := strings.CutPrefix(dir, "internal/"); ok {
			dir = inner
		} else {
			dir = "kvol/" + dir
		}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				there[dir+"."+f.Name.Name] = true
			}
		}
	}
	rows := ruleRow.FindAllStringSubmatch(string(text), -1)
	if len(rows) != drRules {
		t.Errorf("%d rules, want %d", len(rows), drRules)
	}
	for i, row := range rows {
		if row[1] != strconv.Itoa(i+1) {
			t.Errorf("rule %s is in the place of rule %d", row[1], i+1)
		}
		tests := ruleTest.FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 || strings.Count(row[2], "Test") != len(tests) {
			t.Errorf("rule %s names %d tests in the form `package.Test`", row[1], len(tests))
		}
		for _, m := range tests {
			if !there[m[1]+"."+m[2]] {
				t.Errorf("rule %s: there is no test %s in %s", row[1], m[2], m[1])
			}
		}
	}
}
