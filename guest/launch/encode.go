package launch

import (
	"encoding/binary"
	"errors"
)

// errConfig says that the bytes are no Config.
var errConfig = errors.New("it is no configuration of this version")

// Encode writes a Config as Decode reads it. Both ends are one build, so the
// form has no names and no versions: it is read once by each sandbox's first
// process, in which everything that a decoder prepares for later is lost.
func (c *Config) Encode() []byte {
	e := &codec{}
	e.config(c)
	return e.b
}

// Decode reads what Encode wrote.
func Decode(b []byte) (*Config, error) {
	d := &codec{b: b, reading: true}
	c := new(Config)
	d.config(c)
	if d.failed || len(d.b) > 0 {
		return nil, errConfig
	}
	return c, nil
}

// codec walks a Config and writes what it finds, or fills in what it reads.
type codec struct {
	b       []byte
	reading bool
	failed  bool
}

func (c *codec) config(v *Config) {
	c.text(&v.Hostname)
	each(c, &v.Root.Lower, c.dir)
	c.writable(&v.Root.Writable)
	c.flag(&v.Root.Privileged)
	each(c, &v.Mounts, func(m *Mount) {
		c.text(&m.Target)
		c.text(&m.Type)
		c.dir(&m.From)
		each(c, &m.Lower, c.dir)
		c.number(&m.Flags)
		c.text(&m.Data)
	})
	c.sysctls(&v.Sysctls)
	each(c, &v.Limits, func(l *Limit) {
		number(c, &l.Resource)
		c.number(&l.Soft)
		c.number(&l.Hard)
	})
	c.flag(&v.CgroupNamespace)
	c.number(&v.Capabilities)
	c.bytes(&v.Filter)
	c.text(&v.Listen)
	each(c, &v.Files, func(f *File) {
		c.text(&f.Path)
		c.bytes(&f.Content)
		number(c, &f.Mode)
	})
	each(c, &v.Args, c.text)
	each(c, &v.Env, c.text)
}

func (c *codec) dir(d *Dir) {
	number(c, &d.FD)
	c.text(&d.Path)
}

func (c *codec) writable(w **Writable) {
	there := *w != nil
	if c.flag(&there); !there || c.failed {
		return
	}
	if *w == nil {
		*w = new(Writable)
	}
	for _, fd := range []*int{&(*w).FD, &(*w).UpperFD, &(*w).WorkFD} {
		number(c, fd)
	}
	for _, text := range []*string{&(*w).Tmpfs, &(*w).Dir, &(*w).Keep} {
		c.text(text)
	}
}

// sysctls are pairs of name and value.
func (c *codec) sysctls(all *map[string]string) {
	var pairs [][2]string
	for name, value := range *all {
		pairs = append(pairs, [2]string{name, value})
	}
	each(c, &pairs, func(p *[2]string) {
		c.text(&p[0])
		c.text(&p[1])
	})
	if c.reading && len(pairs) > 0 {
		*all = make(map[string]string, len(pairs))
		for _, p := range pairs {
			(*all)[p[0]] = p[1]
		}
	}
}

// each walks a list.
func each[T any](c *codec, list *[]T, visit func(*T)) {
	n := uint64(len(*list))
	c.number(&n)
	if c.reading {
		if c.failed || n > uint64(len(c.b)) { // an item takes a byte at least
			c.failed = true
			return
		}
		if n > 0 {
			*list = make([]T, n)
		}
	}
	for i := range *list {
		visit(&(*list)[i])
	}
}

func number[T int | uint32](c *codec, v *T) {
	wide := uint64(*v)
	c.number(&wide)
	*v = T(wide)
}

func (c *codec) flag(v *bool) {
	var n uint64
	if *v {
		n = 1
	}
	c.number(&n)
	*v = n != 0
}

func (c *codec) number(v *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *v)
		return
	}
	n, used := binary.Uvarint(c.b)
	if used <= 0 || c.failed {
		c.failed = true
		return
	}
	*v, c.b = n, c.b[used:]
}

func (c *codec) bytes(v *[]byte) {
	n := uint64(len(*v))
	c.number(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *v...)
	case c.failed || n > uint64(len(c.b)):
		c.failed = true
	case n > 0:
		*v, c.b = c.b[:n:n], c.b[n:]
	}
}

func (c *codec) text(v *string) {
	b := []byte(*v)
	c.bytes(&b)
	*v = string(b)
}
