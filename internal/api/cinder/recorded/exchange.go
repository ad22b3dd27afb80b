// Package recorded reads exchanges with a real Cinder (21.3, Zed) from files and
// compares its answers with those that are given here: status, version header,
// keys, types and the bodies of errors. It is for tests; each of those that play
// exchanges keeps a list of the ones that differ on purpose.
package recorded

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Exchange is a request to a real Cinder and its answer.
type Exchange struct {
	Name         string // the file's, without its ending
	Method, Path string
	Header       map[string]string
	Body         string
	Code         int
	AnswerHeader map[string]string
	Answer       string
}

// Read reads a recording: "> " lines of a request, "< " lines of the answer's
// head, and then its body.
func Read(path string) (Exchange, error) {
	x := Exchange{Name: strings.TrimSuffix(filepath.Base(path), ".txt"), Header: map[string]string{},
		AnswerHeader: map[string]string{}}
	file, err := os.Open(path)
	if err != nil {
		return x, err
	}
	defer file.Close()
	var inBody, inAnswer bool
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "> ") && x.Method == "":
			parts := strings.Fields(line)
			if len(parts) < 3 {
				return x, fmt.Errorf("%s: no request: %s", path, line)
			}
			x.Method, x.Path = parts[1], parts[2]
		case line == ">" || line == "> ":
			inBody = true
		case strings.HasPrefix(line, "> ") && inBody:
			x.Body += line[2:]
		case strings.HasPrefix(line, "> "):
			k, v, _ := strings.Cut(line[2:], ": ")
			x.Header[k] = v
		case strings.HasPrefix(line, "< HTTP/"):
			if _, err := fmt.Sscanf(line[2:], "HTTP/1.1 %d", &x.Code); err != nil {
				return x, fmt.Errorf("%s: %s: %w", path, line, err)
			}
		case strings.HasPrefix(line, "< "):
			k, v, _ := strings.Cut(line[2:], ": ")
			x.AnswerHeader[k] = v
		case line == "<":
			inAnswer = true
		case inAnswer:
			x.Answer += line + "\n"
		}
	}
	return x, lines.Err()
}
