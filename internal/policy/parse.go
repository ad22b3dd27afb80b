package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const (
	maxCheck = 16 << 10 // bytes of one rule's check
	maxDepth = 64       // parentheses and nots within one another
)

// parse reads a check. An empty one always holds.
func parse(text string) (check, error) {
	if len(text) > maxCheck {
		return nil, fmt.Errorf("it is longer than %d bytes", maxCheck)
	}
	p := &parser{words: split(text)}
	if len(p.words) == 0 {
		return constant(true), nil
	}
	c, err := p.either(0)
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q is left over", p.words[0])
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// split makes words: parentheses at the ends of what stands between blanks,
// and the rest.
func split(text string) (words []string) {
	for _, field := range strings.Fields(text) {
		inner := strings.TrimLeft(field, "(")
		for range len(field) - len(inner) {
			words = append(words, "(")
		}
		bare := strings.TrimRight(inner, ")")
		// The parenthesis of %(name)s is followed by an s, so that none of its own
		// is cut from a match.
		if bare != "" {
			words = append(words, bare)
		}
		for range len(inner) - len(bare) {
			words = append(words, ")")
		}
	}
	return words
}

// parser reads words from the left: or binds least, then and, then not.
type parser struct{ words []string }

func (p *parser) next(keyword string) bool {
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], keyword) {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) either(depth int) (check, error) {
	c, err := p.both(depth)
	if err != nil {
		return nil, err
	}
	of := some{c}
	for p.next("or") {
		if c, err = p.both(depth); err != nil {
			return nil, err
		}
		of = append(of, c)
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return of, nil
}

func (p *parser) both(depth int) (check, error) {
	c, err := p.one(depth)
	if err != nil {
		return nil, err
	}
	of := all{c}
	for p.next("and") {
		if c, err = p.one(depth); err != nil {
			return nil, err
		}
		of = append(of, c)
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return of, nil
}

func (p *parser) one(depth int) (check, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested deeper than %d", maxDepth)
	}
	switch {
	case len(p.words) == 0:
		return nil, errors.New("it ends where a check is expected")
	case p.next("not"):
		c, err := p.one(depth + 1)
		if err != nil {
			return nil, err
		}
		return negation{c}, nil
	case p.next("("):
		c, err := p.either(depth + 1)
		if err == nil && !p.next(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return c, err
	}
	word := p.words[0]
	switch strings.ToLower(word) {
	case ")", "and", "or":
		return nil, fmt.Errorf("%q stands where a check is expected", word)
	}
	p.words = p.words[1:]
	return parseOne(word)
}

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$`)

// parseOne reads a check without operators.
func parseOne(word string) (check, error) {
	switch word {
	case "!":
		return constant(false), nil
	case "@":
		return constant(true), nil
	}
	kind, match, ok := strings.Cut(word, ":")
	if !ok {
		return nil, fmt.Errorf("%q is no check: kind:match is expected", word)
	}
	switch kind {
	case "rule":
		return ruleIs(match), nil
	case "http", "https":
		return nil, fmt.Errorf("%q would ask a server; such checks are not supported", word)
	}
	text, err := readTemplate(match)
	if err != nil {
		return nil, err
	}
	switch {
	case kind == "role":
		return roleIs{text}, nil
	case kind == "True" || kind == "False" || kind == "None" || number.MatchString(kind):
		return literalIs{kind, text}, nil
	case len(kind) > 1 && (kind[0] == '\'' || kind[0] == '"') && kind[len(kind)-1] == kind[0]:
		return literalIs{kind[1 : len(kind)-1], text}, nil
	case kind == "" || strings.ContainsAny(kind, `'"%`):
		return nil, fmt.Errorf("%q is no check: %q names nothing of a caller", word, kind)
	}
	return attributeIs{kind, text}, nil
}

// parseList reads the form of lists: any of the outer one's, which are checks
// or lists of checks that all must hold. An empty one always holds.
func parseList(list []any) (check, error) {
	if len(list) == 0 {
		return constant(true), nil
	}
	var outers some
	for _, outer := range list {
		if word, ok := outer.(string); ok {
			outer = []any{word}
		}
		inner, ok := outer.([]any)
		if !ok {
			return nil, fmt.Errorf("%v is neither a check nor a list of checks", outer)
		}
		var each all
		for _, item := range inner {
			word, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no check", item)
			}
			c, err := parseOne(word)
			if err != nil {
				return nil, err
			}
			each = append(each, c)
		}
		if len(each) > 0 { // oslo.policy leaves empty ones out
			outers = append(outers, each)
		}
	}
	return outers, nil
}
