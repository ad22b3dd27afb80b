// Package kvol_test keeps the rules of STYLE.md that a program can check. It
// reads the files that git knows and builds nothing.
package kvol_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	maxFunction = 70   // lines
	maxFile     = 500  // lines
	maxTestFile = 1000 // lines
	maxLine     = 120  // characters, a tab counting as one
)

// mayImport says which packages of ours each package may import, without the
// part "kvol/internal/". A name that ends in /... stands for all below it.
// What isn't listed may import nothing of ours. Tests import what they like.
var mayImport = map[string][]string{
	"block":               {},
	"audit":               {"block"},
	"vfs":                 {},
	"client":              {"client/..."},
	"client/...":          {"client", "client/..."},
	"catalog":             {"audit", "block"},
	"catalog/catalogtest": {"catalog"},
	"driver":              {"block"},
	"driver/...":          {"block", "driver"},
	"driver/program":      {"block", "client/nbd"},
	"driver/rbd":          {"block", "client/nbd", "driver", "driver/program"},
	"driver/nfs":          {"block", "client/nbd", "driver", "driver/program"},
	"luks":                {"block", "driver"},
	"duty":                {"block", "catalog"},
	"keystore":            {"block", "catalog"},
	"driver/logstore":     {"block", "driver", "vfs"},
	"upkeep":              {"block", "catalog", "driver", "driver/logstore"},
	"export/...":          {"block", "driver", "export/line"},
	"export/line":         {},
	"export/exporttest":   {"driver", "driver/..."},
	"backup":              {"block", "driver"},
	"backup/storetest":    {"backup", "block", "kvol/test/port"},
	"job":                 {"block", "catalog"},
	"compute":             {"block"},
	"replication":         {"block", "catalog", "churn", "driver", "job", "pace"},
	"recovery":            {"block", "catalog", "driver", "job"},
	"rivals":              {"block", "catalog"},
	"proof":               {"block", "catalog", "driver", "replication"},
	"lag":                 {},
	"churn":               {"block"},
	"imagehead":           {"block"},
	"pace":                {},
	"drill":               {"block", "driver"},
	"drmodel":             {"block"},
	"placement":           {"block"},
	"policy":              {"block"},
	"control": {
		"audit",
		"backup",
		"block",
		"catalog",
		"churn",
		"driver",
		"drill",
		"export/...",
		"imagehead",
		"job",
		"keystore",
		"lag",
		"luks",
		"pace",
		"placement",
		"policy",
		"proof",
		"recovery",
		"replication",
		"rivals",
		"vfs",
	},
	"api":             {"block"},
	"api/...":         {"api", "api/openapi", "block", "control"},
	"api/openapi":     {},
	"api/openapi/...": {"api/openapi"},
	"api/dr":          {"api", "api/openapi", "audit", "block", "catalog", "control", "drill", "lag", "pace"},
	"api/store":       {"api", "api/openapi", "block", "upkeep"},
	"api/keymanager":  {"api", "api/openapi", "block", "keystore"},
	"api/peer":        {"api", "block", "control", "proof", "replication", "rivals"},
	"identity":        {"api", "block", "catalog"},
	"image":           {"api", "block", "catalog", "control"},
	"keystone":        {"api", "block"},
	"glance":          {"block", "control", "keystone"},
	"zone":            {"..."},
	"zone/zonetest":   {"..."},
	"kvol/cmd/kvol": {
		"audit",
		"block",
		"catalog",
		"client",
		"client/...",
		"driver/logstore",
		"identity",
		"kvol/cmd/kvol/...",
		"zone",
	},
	"zone/simtest":       {"..."},
	"kvol/cmd/kvol/demo": {"api/peer", "block", "client", "client/...", "replication", "zone"},
	"kvol/test/...":      {"..."},
}

// neverImport are exceptions from "..." above.
var neverImport = map[string][]string{
	"zone": {"client", "client/...", "zone/..."},
}

// bannedPackages name nothing.
var bannedPackages = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "base", "misc"}

// forbidden are words that say that something isn't finished, or that name a
// place on one person's machine. They are written so that this file has none.
var forbidden = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b|/wo` + `rk/`)

// source is a Go file.
type source struct {
	path string // with slashes, from the root
	text []byte
	file *ast.File
	set  *token.FileSet
}

func (s source) test() bool {
	return strings.HasSuffix(s.path, "_test.go") || strings.HasPrefix(s.path, "test/") ||
		strings.HasSuffix(path.Dir(s.path), "test")
}

func (s source) line(p token.Pos) int { return s.set.Position(p).Line }

// tracked lists the files that git knows and that are there.
func tracked(t *testing.T) (files []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z").Output()
	if err != nil {
		t.Skipf("not a git work tree: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			files = append(files, name)
		}
	}
	return files
}

// sources parses the Go files that people write.
func sources(t *testing.T) (all []source) {
	t.Helper()
	set := token.NewFileSet()
	for _, name := range tracked(t) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		if !ast.IsGenerated(file) {
			all = append(all, source{name, text, file, set})
		}
	}
	return all
}

// packageName is how the table above calls the package of a file.
func packageName(file string) string {
	dir := path.Dir(file)
	if name, ok := strings.CutPrefix(dir, "internal/"); ok {
		return name
	}
	return path.Join("kvol", dir)
}

// matches reports whether a pattern of the table means a package.
func matches(pattern, name string) bool {
	if pattern == "..." {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// allowed looks a package up, the longest pattern first.
func allowed(name string) (patterns []string, ok bool) {
	if p, ok := mayImport[name]; ok {
		return p, true
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if p, ok := mayImport[dir+"/..."]; ok {
			return p, true
		}
	}
	return nil, false
}

func TestImportsGoOneWay(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		from := packageName(s.path)
		patterns, ok := allowed(from)
		if !ok && from != "kvol" && from != "kvol/web" {
			t.Errorf("%s:1: package %s is not in the table of tidy_test.go", s.path, from)
		}
		for _, i := range s.file.Imports {
			to, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), "kvol/")
			if !ours {
				continue
			}
			to, inner := strings.CutPrefix(to, "internal/")
			if !inner {
				to = path.Join("kvol", to)
			}
			means := func(p string) bool { return matches(p, to) }
			if !slices.ContainsFunc(patterns, means) || slices.ContainsFunc(neverImport[from], means) {
				t.Errorf("%s:%d: %s must not import %s", s.path, s.line(i.Pos()), from, to)
			}
		}
	}
}

func TestPackages(t *testing.T) {
	documented, first := map[string]bool{}, map[string]source{}
	for _, s := range sources(t) {
		dir := path.Dir(s.path)
		if name := s.file.Name.Name; slices.Contains(bannedPackages, strings.TrimSuffix(name, "_test")) {
			t.Errorf("%s:1: a package called %s says nothing", s.path, name)
		}
		if strings.HasSuffix(s.path, "_test.go") {
			continue
		}
		if _, ok := first[dir]; !ok {
			first[dir] = s
		}
		documented[dir] = documented[dir] || s.file.Doc.Text() != ""
	}
	for dir, s := range first {
		if !documented[dir] {
			t.Errorf("%s:%d: package %s has no doc comment", s.path, s.line(s.file.Package), s.file.Name.Name)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		lines := bytes.Split(bytes.TrimRight(s.text, "\n"), []byte("\n"))
		limit := maxFile
		if s.test() {
			limit = maxTestFile
		}
		if len(lines) > limit {
			t.Errorf("%s:%d: the file has %d lines, more than %d", s.path, limit+1, len(lines), limit)
		}
		for i, line := range lines {
			if n := utf8.RuneCount(line); n > maxLine {
				t.Errorf("%s:%d: the line has %d characters, more than %d", s.path, i+1, n, maxLine)
			}
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test() {
				continue
			}
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > maxFunction {
				t.Errorf("%s:%d: %s has %d lines, more than %d", s.path, s.line(f.Pos()), f.Name.Name, n, maxFunction)
			}
		}
	}
}

func TestExportedIsDocumented(t *testing.T) {
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				t.Errorf("%s:%d: %s has no doc comment", s.path, s.line(name.Pos()), name.Name)
			}
		}
	}
}

// undocumented returns the exported names that a declaration makes without
// saying what they are. A group of constants or variables may have one comment.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc.Text() == "" && exportedReceiver(d) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Doc.Text()+spec.Comment.Text()+d.Doc.Text() == "" {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				if spec.Doc.Text()+spec.Comment.Text()+d.Doc.Text() == "" {
					names = append(names, spec.Names...)
				}
			}
		}
	}
	return slices.DeleteFunc(names, func(n *ast.Ident) bool { return !n.IsExported() })
}

// wellKnown are methods whose meaning their interface documents.
var wellKnown = []string{
	"Error", "Unwrap", "String", "ServeHTTP", "MarshalJSON", "UnmarshalJSON", "Len", "Less", "Swap",
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	if slices.Contains(wellKnown, d.Name.Name) {
		return false
	}
	receiver := d.Recv.List[0].Type
	if p, ok := receiver.(*ast.StarExpr); ok {
		receiver = p.X
	}
	if g, ok := receiver.(*ast.IndexExpr); ok {
		receiver = g.X
	}
	name, ok := receiver.(*ast.Ident)
	return !ok || name.IsExported()
}

func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s:%d: init runs where nobody sees it", s.path, s.line(f.Pos()))
			}
		}
	}
}

// TestClock: the system's clock is read through a function that was given;
// time.Now is named only as the default of a field called Now.
func TestClock(t *testing.T) {
	for _, s := range sources(t) {
		if s.test() || strings.HasPrefix(s.path, "cmd/") {
			continue
		}
		fine := map[ast.Node]bool{}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if len(n.Lhs) == 1 && strings.EqualFold(lastName(n.Lhs[0]), "now") {
					fine[n.Rhs[0]] = true
				}
			case *ast.KeyValueExpr:
				fine[n.Value] = strings.EqualFold(lastName(n.Key), "now")
			case *ast.SelectorExpr:
				if pkg, ok := n.X.(*ast.Ident); !ok || pkg.Name != "time" || fine[n] {
					return true
				}
				if slices.Contains([]string{"Now", "Since", "Until"}, n.Sel.Name) {
					t.Errorf("%s:%d: time.%s; take a clock instead", s.path, s.line(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

// lastName is "now" for now, s.now and s.config.now.
func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func TestForbiddenWords(t *testing.T) {
	for _, name := range tracked(t) {
		if strings.HasSuffix(name, "go.sum") || strings.HasSuffix(name, ".lock") {
			continue // hashes
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(text[:min(len(text), 8000)], 0) >= 0 {
			continue // not text
		}
		for i, line := range bytes.Split(text, []byte("\n")) {
			if word := forbidden.Find(line); word != nil && len(line) < 2000 {
				t.Errorf("%s:%d: %q must not be here", name, i+1, word)
			}
		}
	}
}

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)(?: "[^"]*")?\)`)
	elsewhere    = regexp.MustCompile(`^([a-z]+:|#|/)`)
	inlineCode   = regexp.MustCompile("`[^`]*`")
)

func TestMarkdownLinks(t *testing.T) {
	for _, name := range tracked(t) {
		if path.Ext(name) != ".md" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code := false
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				code = !code
			}
			if code {
				continue
			}
			for _, m := range markdownLink.FindAllStringSubmatch(inlineCode.ReplaceAllString(line, "code"), -1) {
				to, _, _ := strings.Cut(m[1], "#")
				if elsewhere.MatchString(m[1]) {
					continue
				}
				if _, err := os.Stat(filepath.Join(path.Dir(name), to)); err != nil {
					t.Errorf("%s:%d: %s is not there", name, i+1, to)
				}
			}
		}
	}
}

// TestSQLiteHasItsLibc: modernc.org/sqlite is translated against one version of
// modernc.org/libc, and must be built with exactly that one.
func TestSQLiteHasItsLibc(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.GoMod}}", "modernc.org/sqlite").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`modernc\.org/libc (v\S+)`).FindSubmatch(text)
		if m == nil {
			t.Fatal(fmt.Errorf("%s does not name modernc.org/libc", file))
		}
		return string(m[1])
	}
	if ours, theirs := version("go.mod"), version(strings.TrimSpace(string(out))); ours != theirs {
		t.Errorf("go.mod has modernc.org/libc %s, modernc.org/sqlite asks for %s", ours, theirs)
	}
}

// TestStoresAreChecked: whatever in a test opens an embedded store checks it,
// or hands it on to whoever does. An opening that is to fail is none.
func TestStoresAreChecked(t *testing.T) {
	byDir := map[string][]source{}
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, "_test.go") {
			byDir[path.Dir(s.path)] = append(byDir[path.Dir(s.path)], s)
		}
	}
	for dir, files := range byDir {
		openers := map[string]bool{"logstore.Open": true}
		if dir == "internal/driver/logstore" {
			openers["Open"] = true
		}
		for again := true; again; { // what returns an open store opens one, too
			again = false
			eachFunction(files, func(s source, f *ast.FuncDecl) {
				name := f.Name.Name
				if !openers[name] && givesStore(f) && opens(f, openers) && !checks(f) {
					openers[name], again = true, true
				}
			})
		}
		eachFunction(files, func(s source, f *ast.FuncDecl) {
			if opens(f, openers) && !checks(f) && !openers[f.Name.Name] && !leftOpen[path.Join(dir, f.Name.Name)] {
				t.Errorf("%s:%d: %s opens a store and does not check it", s.path, s.line(f.Pos()), f.Name.Name)
			}
		})
	}
}

// leftOpen are functions that open a store for others to check: a process that
// is killed, and the crash harness, which checks each history when it ends.
var leftOpen = map[string]bool{
	"test/realfs/serveStore":          true,
	"internal/driver/logstore/reopen": true,
}

func eachFunction(files []source, do func(source, *ast.FuncDecl)) {
	for _, s := range files {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				do(s, f)
			}
		}
	}
}

// givesStore reports whether a function returns a *Store.
func givesStore(f *ast.FuncDecl) bool {
	if f.Type.Results == nil {
		return false
	}
	return slices.ContainsFunc(f.Type.Results.List, func(r *ast.Field) bool {
		p, ok := r.Type.(*ast.StarExpr)
		return ok && strings.HasSuffix(called(p.X), "Store")
	})
}

// called is the name of what an expression names, with its package.
func called(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		if of, ok := x.X.(*ast.Ident); ok {
			return of.Name + "." + x.Sel.Name
		}
		return x.Sel.Name
	}
	return ""
}

// opens reports whether a function keeps what an opener returns.
func opens(f *ast.FuncDecl, openers map[string]bool) (found bool) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Rhs) == 1 {
			call, isCall := a.Rhs[0].(*ast.CallExpr)
			found = found || isCall && openers[called(call.Fun)] && called(a.Lhs[0]) != "_"
		}
		return !found
	})
	return found
}

// checks reports whether a function checks a store.
func checks(f *ast.FuncDecl) (found bool) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			name := called(call.Fun)
			found = found || name == "endChecked" || strings.HasSuffix(name, ".Check") || name == "Check"
		}
		return !found
	})
	return found
}
