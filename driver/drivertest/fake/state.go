package fake

import "slices"

// SetState gives a sandbox a state that stands for its memory: a full
// snapshot saves it and a restore brings it back.
func (m *Machine) SetState(id string, state ...string) {
	if s := m.find(id); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state = slices.Clone(state)
	}
}

// State returns what SetState or a restore gave a sandbox.
func (m *Machine) State(id string) []string {
	s := m.find(id)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.state)
}

// Root is the directory that a sandbox's agent takes for its root.
func (m *Machine) Root(id string) string {
	if s := m.find(id); s != nil {
		return s.dir + "/root"
	}
	return ""
}
