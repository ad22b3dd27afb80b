package policy

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml"
)

const (
	maxFile  = 1 << 20 // bytes
	maxRules = 4096    // in a file
)

// Parse reads the text of a policy.yaml (or a policy.json, which is YAML too)
// over the defaults. It returns warnings about rules that mean nothing. olds
// makes the checks that rules had before their present ones hold as well.
func Parse(text []byte, olds bool) (*Rules, []string, error) {
	var written map[string]any
	if err := yaml.Unmarshal(text, &written); err != nil {
		return nil, nil, errors.New(yaml.FormatError(err, false, true))
	}
	if len(written) > maxRules {
		return nil, nil, fmt.Errorf("there are more than %d rules", maxRules)
	}
	checks := make(map[string]check, len(written))
	for name, value := range written {
		c, err := parseAny(value)
		if err != nil {
			return nil, nil, fmt.Errorf("rule %s: %w", name, err)
		}
		checks[name] = c
	}
	return build(checks, olds)
}

func parseAny(value any) (check, error) {
	switch value := value.(type) {
	case nil:
		return constant(true), nil
	case string:
		return parse(value)
	case []any:
		return parseList(value)
	}
	return nil, fmt.Errorf("%v is neither a text nor a list", value)
}

// readFile reads a policy file with a limit.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return text, errors.Join(err, f.Close())
}
