// Package policy decides who may do what, by rules in the language of
// oslo.policy: Cinder's defaults, and an operator's policy.yaml over them.
//
// A rule has a name and a check. Checks are made of `role:admin`,
// `rule:admin_api`, `project_id:%(project_id)s` (an attribute of the caller
// against a text with attributes of what is acted on), `True:%(bootable)s` (a
// constant against such a text), `@` (always) and `!` (never) by `and`, `or`,
// `not` and parentheses, or of lists of lists of them: any of the outer, all of
// the inner. Checks that ask a server (`http:`, `https:`) are refused.
//
// Sources: oslo_policy/_parser.py, _checks.py and policy.py of 4.0.0;
// cinder/policies and cinder/context.py of Zed.
package policy
