// Package fake is a driver for the tests of what stands above drivers: its
// sandboxes live in the test's own process, each with the real guest agent,
// which runs commands as plain processes of this machine. It isolates
// nothing. What it can do and what goes wrong are the test's to say.
//
// A Machine holds the sandboxes; a Driver is one daemon's access to them. A
// test that restarts a daemon opens a second driver on the same machine.
package fake

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

// Machine holds sandboxes, which outlive the drivers that made them.
type Machine struct {
	Faults *Faults

	dir  string
	name faas.Runtime

	mu        sync.Mutex
	caps      faas.Capabilities
	images    map[string]driver.Image
	sandboxes map[string]*sandbox // nil value: Create is under way
}

// NewMachine returns a machine whose sandboxes keep their files below dir. Its
// drivers serve the runtime name with every feature that plain processes
// offer, and know the image faas.HostImage.
func NewMachine(dir string, name faas.Runtime) *Machine {
	return &Machine{
		Faults: newFaults(), dir: dir, name: name,
		caps:      plainCapabilities(name),
		images:    map[string]driver.Image{faas.HostImage: {Ref: faas.HostImage, Digest: "sha256:fake-host"}},
		sandboxes: map[string]*sandbox{},
	}
}

// plainCapabilities has what processes without isolation can do.
func plainCapabilities(name faas.Runtime) faas.Capabilities {
	caps := faas.Capabilities{Runtime: name, Available: true, Version: "fake"}
	works := []faas.Feature{
		faas.FeatureExec, faas.FeaturePTY, faas.FeatureFiles, faas.FeaturePorts,
		faas.FeatureHostImage, faas.FeaturePause, faas.FeatureRecover,
	}
	for _, f := range faas.Features() {
		c := faas.Capability{Feature: f, Available: slices.Contains(works, f)}
		if !c.Available {
			c.Reason, c.Remedy = "the fake driver runs plain processes", "use a real runtime"
		}
		caps.Features = append(caps.Features, c)
	}
	return caps
}

// SetCapabilities changes what Probe answers.
func (m *Machine) SetCapabilities(change func(*faas.Capabilities)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.caps.Features = slices.Clone(m.caps.Features)
	change(&m.caps)
}

// Offer makes the features available, to be claimed by a test, not to be had.
func (m *Machine) Offer(features ...faas.Feature) {
	m.SetCapabilities(func(c *faas.Capabilities) {
		for i := range c.Features {
			if slices.Contains(features, c.Features[i].Feature) {
				c.Features[i] = faas.Capability{Feature: c.Features[i].Feature, Available: true}
			}
		}
	})
}

// AddImage makes an image known.
func (m *Machine) AddImage(image driver.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[image.Ref] = image
}

// Sandboxes returns the ids of the sandboxes that are there, sorted.
func (m *Machine) Sandboxes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.sandboxes))
}

// Spec returns the Spec that a sandbox was made or adopted with.
func (m *Machine) Spec(id string) (faas.Spec, bool) {
	s := m.find(id)
	if s == nil {
		return faas.Spec{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec, true
}

func (m *Machine) find(id string) *sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sandboxes[id]
}

// Close destroys every sandbox. Tests call it at their end.
func (m *Machine) Close() error {
	m.mu.Lock()
	left := slices.Collect(maps.Values(m.sandboxes))
	m.mu.Unlock()
	var first error
	for _, s := range left {
		if s == nil {
			continue
		}
		if err := s.destroy(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Driver is one daemon's access to a machine.
type Driver struct {
	machine *Machine
	mu      sync.Mutex
	closed  bool
}

var (
	_ driver.Driver = (*Driver)(nil)
	_ driver.Pooled = (*Driver)(nil)
)

// Open returns a driver for the machine's sandboxes.
func (m *Machine) Open() *Driver { return &Driver{machine: m} }

// Name returns the machine's runtime.
func (d *Driver) Name() faas.Runtime { return d.machine.name }

// Probe answers what the test said.
func (d *Driver) Probe(context.Context) faas.Capabilities {
	d.machine.mu.Lock()
	defer d.machine.mu.Unlock()
	caps := d.machine.caps
	caps.Features = slices.Clone(caps.Features)
	caps.ProbedAt = time.Now()
	return caps
}

// ResolveImage knows the images that the test added.
func (d *Driver) ResolveImage(ctx context.Context, ref string, progress driver.ImageProgress) (driver.Image, error) {
	if err := d.machine.Faults.at(ctx, PointResolve); err != nil {
		return driver.Image{}, err
	}
	d.machine.mu.Lock()
	image, ok := d.machine.images[ref]
	d.machine.mu.Unlock()
	if !ok {
		return driver.Image{}, faas.Errorf(faas.KindNotFound, "image %q is not known to the fake driver", ref)
	}
	if progress != nil {
		progress("layer", 1, 1)
	}
	return image, nil
}

// Create makes a sandbox.
func (d *Driver) Create(ctx context.Context, spec faas.Spec) (driver.Sandbox, error) {
	m := d.machine
	if err := d.usable(); err != nil {
		return nil, err
	}
	if err := validate(spec); err != nil {
		return nil, err
	}
	if err := m.Faults.at(ctx, PointCreate); err != nil {
		return nil, err
	}
	if err := m.reserve(spec); err != nil {
		return nil, err
	}
	s, err := newSandbox(m, spec)
	if err != nil {
		m.forget(spec.ID)
		return nil, err
	}
	m.mu.Lock()
	m.sandboxes[spec.ID] = s
	m.mu.Unlock()
	if err := m.Faults.at(ctx, PointCreated); err != nil {
		s.destroy() //nolint:errcheck // the first error counts
		return nil, err
	}
	return s, nil
}

// reserve takes the id before anything is made under it.
func (m *Machine) reserve(spec faas.Spec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.images[spec.Image]; !ok {
		return faas.Errorf(faas.KindNotFound, "image %q is not known to the fake driver", spec.Image)
	}
	if _, taken := m.sandboxes[spec.ID]; taken {
		return faas.Errorf(faas.KindConflict, "sandbox %s exists already", spec.ID)
	}
	m.sandboxes[spec.ID] = nil
	return nil
}

func (m *Machine) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sandboxes, id)
}

// Recover finds a sandbox of the machine.
func (d *Driver) Recover(ctx context.Context, h driver.Handle) (driver.Sandbox, error) {
	if err := d.machine.Faults.at(ctx, PointRecover); err != nil {
		return nil, err
	}
	s := d.machine.find(h.ID)
	if s == nil || h.Runtime != d.machine.name || s.over() {
		return nil, faas.Errorf(faas.KindNotFound, "sandbox %q is not running", h.ID)
	}
	return s, nil
}

// Sweep destroys what is not to be kept.
func (d *Driver) Sweep(ctx context.Context, keep func(id string) bool) ([]string, error) {
	if err := d.machine.Faults.at(ctx, PointSweep); err != nil {
		return nil, err
	}
	d.machine.mu.Lock()
	all := maps.Clone(d.machine.sandboxes)
	d.machine.mu.Unlock()
	var removed []string
	for id, s := range all {
		if s == nil || keep(id) {
			continue
		}
		if err := s.destroy(); err != nil {
			return removed, err
		}
		removed = append(removed, id)
	}
	return removed, nil
}

// Adopt gives a sandbox made ahead of time the Spec of a request.
func (d *Driver) Adopt(ctx context.Context, made driver.Sandbox, spec faas.Spec) error {
	if err := d.machine.Faults.at(ctx, PointAdopt); err != nil {
		return err
	}
	s := d.machine.find(made.ID())
	if s == nil || s.over() {
		return faas.Errorf(faas.KindNotFound, "sandbox %q is not running", made.ID())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spec.Image != spec.Image || s.spec.ReadOnly != spec.ReadOnly || s.spec.Network.Mode != spec.Network.Mode {
		return faas.Errorf(faas.KindFailedPrecondition, "sandbox %s was made for image %q, not %q, or for another network", s.id, s.spec.Image, spec.Image)
	}
	spec.ID = s.spec.ID
	s.spec = spec
	return nil
}

// Close closes the driver. Sandboxes live on.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

func (d *Driver) usable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return faas.Errorf(faas.KindFailedPrecondition, "the driver is closed")
	}
	return nil
}
