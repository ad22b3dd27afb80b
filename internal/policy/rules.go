package policy

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"kvol/internal/block"
)

// Rules are one state of all rules. They never change and may be asked by many
// at once. They implement block.Judge.
type Rules struct {
	named map[string]check
	admin check
}

// Default returns Cinder's default rules.
var Default = sync.OnceValue(func() *Rules {
	r, _, err := build(nil, false)
	if err != nil {
		panic(err) // the defaults are part of the program
	}
	return r
})

// Allows implements block.Judge. A rule that nobody defined is the rule
// "default" where the operator has one, and else what otherwise names.
func (r *Rules) Allows(c block.Caller, rule, otherwise string, target Target) bool {
	q := question{rules: r, caller: c, target: target}
	if named, ok := r.find(rule); ok {
		return named.holds(&q)
	}
	named, ok := r.find(otherwise)
	return ok && named.holds(&q)
}

// Admin implements block.Judge by the rule context_is_admin, with the caller
// itself as the target (cinder/policy.py, check_is_admin).
func (r *Rules) Admin(c block.Caller) bool {
	return r.admin.holds(&question{rules: r, caller: c, target: Self(c)})
}

// Judging returns the caller with these rules as its judge. Whom they make an
// administrator has the role admin from then on (cinder/context.py).
func (r *Rules) Judging(c block.Caller) block.Caller {
	c.Judge = r
	if r.Admin(c) && !c.Has("admin") {
		c.Roles = append(slices.Clip(c.Roles), "admin")
	}
	return c
}

// Self is the target of what is about nobody else: the caller's own project
// and user.
func Self(c block.Caller) Target {
	return func(name string) (string, bool) {
		switch name {
		case "project_id", "tenant_id":
			return string(c.Project), true
		case "user_id":
			return string(c.User), true
		}
		return "", false
	}
}

func (r *Rules) find(name string) (check, bool) {
	if c, ok := r.named[name]; ok {
		return c, true
	}
	c, ok := r.named["default"]
	return c, ok
}

// build puts an operator's rules over the defaults. Where olds is set, a rule
// that the operator left alone also holds if it held before it got its present
// check (oslo.policy's enforce_new_defaults turned off). It returns a warning
// for each rule that means nothing.
func build(written map[string]check, olds bool) (r *Rules, warnings []string, err error) {
	r = &Rules{named: map[string]check{}}
	known := map[string]bool{"default": true}
	for _, d := range defaults() {
		known[d.name] = true
		if d.before != "" {
			known[d.before] = true
		}
		c, err := d.read(written, olds)
		if err != nil {
			return nil, nil, fmt.Errorf("the default of %s: %w", d.name, err)
		}
		r.named[d.name] = c
	}
	maps.Copy(r.named, written)
	r.admin = r.named["context_is_admin"]
	if err := r.circles(); err != nil {
		return nil, nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(written)) {
		written[name].refers(func(other string) {
			known[other] = true
			if _, ok := r.find(other); !ok {
				warnings = append(
					warnings,
					fmt.Sprintf("%s goes on to the rule %s, which is not there: it never holds", name, other),
				)
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(written)) {
		if !known[name] {
			warnings = append(warnings, fmt.Sprintf("there is no rule %s: nothing asks for it", name))
		}
	}
	return r, warnings, nil
}

// read makes the check of a default that the operator left alone, or wrote
// under its old name (oslo_policy/policy.py, _handle_deprecated_rule).
func (d ruleDefault) read(written map[string]check, olds bool) (check, error) {
	if c, ok := written[d.before]; ok {
		return c, nil
	}
	c, err := parse(d.check)
	if err != nil || !olds || d.old == nil {
		return c, err
	}
	old, err := parse(*d.old)
	return some{c, old}, err
}

// circles refuses rules that go on to themselves.
func (r *Rules) circles() error {
	const walking, walked = 1, 2
	state := map[string]int{}
	var walk func(name string) error
	walk = func(name string) (err error) {
		c, ok := r.find(name)
		if !ok || state[name] == walked {
			return nil
		}
		if state[name] == walking {
			return fmt.Errorf("%s goes on to itself", name)
		}
		state[name] = walking
		c.refers(func(other string) {
			if err == nil {
				err = walk(other)
			}
		})
		state[name] = walked
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(r.named)) {
		if err := walk(name); err != nil {
			return err
		}
	}
	return nil
}
