package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Hook is what an operator has run between the waves of a recovery: a request
// to a URL or a command of this machine, one of the two. It may run twice, if
// the zone is killed meanwhile; Idempotency-Key and KVOL_STEP say that it is the
// same.
type Hook struct {
	URL     string
	Command []string
	Timeout time.Duration // 30 s if zero
}

const (
	hookTimeout = 30 * time.Second
	hookOutput  = 4 << 10 // bytes that are kept
	hookGrace   = 2 * time.Second
)

// HookNews is what a hook is told, as the body of the request or on standard
// input.
type HookNews struct {
	Operation string       `json:"operation"`
	Step      int          `json:"step"`
	Hook      string       `json:"hook"`
	When      string       `json:"when"` // before or after the wave
	Wave      int          `json:"wave"`
	Volumes   []HookVolume `json:"volumes"` // of the wave
}

// HookVolume is a volume in a HookNews.
type HookVolume struct {
	SourceZone block.Zone       `json:"source_zone"`
	Source     block.VolumeID   `json:"source_volume"`
	NewVolume  block.VolumeID   `json:"new_volume"` // "" before it began
	Project    block.ProjectID  `json:"project_id"`
	Status     block.StepStatus `json:"status"`
}

type hookEvidence struct {
	Answer string `json:"answer"` // the status of the answer, or how the command ended
	Output string `json:"output"`
}

// hookStep runs a hook and notes what it said.
func (s *Service) hookStep(ctx context.Context, op block.Operation, step block.OperationStep,
	all []block.OperationStep) error {
	p, err := paramsOf(step)
	if err != nil {
		return err
	}
	gone := false
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.OperationStep(op.ID, step.Seq)
		if err != nil {
			return err
		}
		if gone = now.Status.Ended(); gone {
			return nil
		}
		step = now
		step.Status, step.StartedAt = block.StepRunning, tx.Now
		return first(started(tx, op), tx.UpdateOperationStep(step))
	})
	if err != nil || gone {
		return err
	}
	news := HookNews{Operation: op.ID, Step: step.Seq, Hook: p.Hook, When: p.When, Wave: step.Wave,
		Volumes: []HookVolume{}}
	for _, v := range all {
		if v.Kind == block.StepRecover && v.Wave == step.Wave {
			news.Volumes = append(news.Volumes, HookVolume{v.SourceZone, v.Source, v.NewVolume, v.Project, v.Status})
		}
	}
	evidence, failed := s.callHook(ctx, p, news)
	if ctx.Err() != nil {
		return ctx.Err() // the process stops; it runs again
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if step.Evidence, err = json.Marshal(evidence); err != nil {
			return err
		}
		if failed != nil {
			why, _ := block.UserMessage(failed)
			return endStep(tx, step, block.StepFailed, why)
		}
		return endStep(tx, step, block.StepSucceeded, "")
	})
}

// callHook runs a hook of the configuration. Its errors are sentences.
func (s *Service) callHook(ctx context.Context, p stepParams, news HookNews) (hookEvidence, error) {
	h, ok := s.cfg.DR.Hooks[p.Hook]
	if !ok {
		return hookEvidence{}, block.Errorf(block.NotFound, "The zone's configuration has no hook %s any more.", p.Hook)
	}
	limit := cmp.Or(time.Duration(p.Seconds)*time.Second, h.Timeout, hookTimeout)
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := json.Marshal(news)
	if err != nil {
		return hookEvidence{}, err
	}
	call := h.request
	if h.URL == "" {
		call = h.run
	}
	e, err := call(timed, news, body)
	switch {
	case timed.Err() != nil:
		return e, block.Wrap(block.Unavailable, timed.Err(), "Hook %s took longer than %s.", p.Hook, limit)
	case err != nil:
		return e, block.Wrap(block.Unavailable, err, "Hook %s failed: %s.", p.Hook, e.Answer)
	}
	return e, nil
}

// request posts the news.
func (h Hook) request(ctx context.Context, news HookNews, body []byte) (hookEvidence, error) {
	return post(ctx, h.URL, fmt.Sprintf("%s/%d", news.Operation, news.Step), body)
}

// post sends JSON; an answer that is not 2xx is an error.
func post(ctx context.Context, url, key string, body []byte) (e hookEvidence, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return hookEvidence{Answer: "its URL can't be used"}, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Idempotency-Key", key)
	transport := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return hookEvidence{Answer: "it could not be reached"}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, hookOutput))
	e = hookEvidence{Answer: answer.Status, Output: string(bytes.ToValidUTF8(text, nil))}
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("the answer is %s", answer.Status)
	}
	return e, err
}

// run runs the command.
func (h Hook) run(ctx context.Context, news HookNews, body []byte) (hookEvidence, error) {
	e, _, err := runCommand(ctx, h.Command, append(os.Environ(), "KVOL_OPERATION="+news.Operation,
		"KVOL_STEP="+strconv.Itoa(news.Step), "KVOL_HOOK="+news.Hook, "KVOL_WHEN="+news.When,
		"KVOL_WAVE="+strconv.Itoa(news.Wave)), body)
	return e, err
}

// runCommand runs a command in a process group of its own, so that what it
// started ends with it when its time is over. exit is its status, negative where
// it has none.
func runCommand(ctx context.Context, command, env []string, stdin []byte) (e hookEvidence, exit int, err error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdin = env, bytes.NewReader(stdin)
	out := &head{most: hookOutput}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hookGrace
	err = cmd.Run()
	e, exit = hookEvidence{Answer: "it could not be started"}, -1
	if cmd.ProcessState != nil {
		e.Answer, exit = cmd.ProcessState.String(), cmd.ProcessState.ExitCode()
	}
	e.Output = string(bytes.ToValidUTF8(out.text, nil))
	return e, exit, err
}

// head keeps the beginning of what is written to it.
type head struct {
	text []byte
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.text = append(h.text, p[:min(len(p), h.most-len(h.text))]...)
	return len(p), nil
}

// gaveUpOperation is for an operation that can't go on: its steps that have not
// begun are skipped. Those that have go to their ends by jobs of their own.
func gaveUpOperation(tx *catalog.Tx, j block.Job, cause error) error {
	op, err := tx.Operation(j.Subject)
	if err != nil || op.Status.Ended() {
		return ignoring(block.NotFound, err)
	}
	steps, err := tx.OperationSteps(op.ID)
	if err != nil {
		return err
	}
	begun := false
	for i, step := range steps {
		begun = begun || step.Status == block.StepQueued || step.Kind == block.StepRecover &&
			step.Status == block.StepRunning
		if step.Status == block.StepWaiting || step.Kind == block.StepHook && step.Status == block.StepRunning {
			if err := endStep(tx, step, block.StepSkipped, "The operation could not go on."); err != nil {
				return err
			}
			steps[i].Status = block.StepSkipped
		}
	}
	if begun {
		return nil // the last of them takes it on
	}
	op.Status, _ = outcome(op, steps)
	if op.Status == block.OperationSucceeded {
		op.Status = block.OperationPartly
	}
	message, ok := block.UserMessage(cause)
	if !ok {
		message = "A fault of this zone; its log says more."
	}
	op.Message, op.EndedAt = message, tx.Now
	return tx.UpdateOperation(op)
}
