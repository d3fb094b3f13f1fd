package executor

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/internal/meta"
)

// How long an answer of an earlier process holds, and one that a runtime is
// not available: the user may be at work on it.
const (
	keptAnswerLasts  = 10 * time.Minute
	keptRefusalLasts = 30 * time.Second
	keepTimeout      = 5 * time.Second
)

// probeCache keeps the drivers' answers from one process to the next, so that
// a program that runs one command need not wait for a whole probe. Answers of
// a driver that cannot say what they depend on are not kept.
type probeCache struct {
	store *meta.Store
	log   *slog.Logger
}

// keptAnswer is what a probe found and under which circumstances.
type keptAnswer struct {
	Boot        string            `json:"boot"`    // of the kernel; empty where it has no name
	Program     string            `json:"program"` // that probed
	Fingerprint string            `json:"fingerprint"`
	Answer      faas.Capabilities `json:"answer"`
}

// settingOf is where a user's answers are: another user of the same directory
// can do other things.
func settingOf(runtime faas.Runtime) string {
	return "probe." + string(runtime) + "." + strconv.Itoa(os.Geteuid())
}

// circumstances are those of now; ok is false when the driver cannot tell.
func circumstances(d driver.Driver) (now keptAnswer, ok bool) {
	f, ok := d.(driver.Fingerprinter)
	if !ok {
		return now, false
	}
	now.Fingerprint = f.Fingerprint()
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		now.Boot = strings.TrimSpace(string(b))
	}
	if program, err := os.Executable(); err == nil {
		if info, err := os.Stat(program); err == nil {
			now.Program = program + " " + strconv.FormatInt(info.ModTime().UnixNano(), 10) + " " + strconv.FormatInt(info.Size(), 10)
		}
	}
	return now, true
}

// recall returns a kept answer that still holds, or nil.
func (c *probeCache) recall(ctx context.Context, d driver.Driver) *faas.Capabilities {
	if c == nil {
		return nil
	}
	now, ok := circumstances(d)
	if !ok {
		return nil
	}
	value, ok, err := c.store.Setting(ctx, settingOf(d.Name()))
	if err != nil || !ok {
		return nil
	}
	var kept keptAnswer
	if json.Unmarshal([]byte(value), &kept) != nil {
		return nil
	}
	answer := kept.Answer
	kept.Answer = faas.Capabilities{}
	lasts := keptAnswerLasts
	if !answer.Available {
		lasts = keptRefusalLasts
	}
	age := time.Since(answer.ProbedAt)
	if kept.Boot != now.Boot || kept.Program != now.Program || kept.Fingerprint != now.Fingerprint || age < 0 || age > lasts {
		return nil
	}
	return &answer
}

// keep stores an answer. It is no more than a saving of time: what fails is
// logged.
func (c *probeCache) keep(ctx context.Context, d driver.Driver, answer faas.Capabilities) {
	if c == nil || ctx.Err() != nil {
		return // an answer that was cut short says nothing
	}
	record, ok := circumstances(d)
	if !ok {
		return
	}
	record.Answer = answer
	value, err := json.Marshal(record)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		err = c.store.SetSetting(ctx, settingOf(d.Name()), string(value))
	}
	if err != nil {
		c.log.Debug("the answer of a probe could not be kept", "runtime", d.Name(), "error", err)
	}
}
