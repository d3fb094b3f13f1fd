package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// etcFiles are public files that programs of /usr look for. Each is copied
// where the machine has it and everybody may read it.
var etcFiles = []string{
	"/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/os-release", "/etc/debian_version", "/etc/redhat-release", "/etc/alpine-release",
	"/etc/localtime", "/etc/timezone",
	"/etc/protocols", "/etc/services", "/etc/rpc", "/etc/ethertypes", "/etc/mime.types", "/etc/magic", "/etc/magic.mime",
	"/etc/inputrc", "/etc/bash.bashrc", "/etc/shells", "/etc/locale.alias", "/etc/papersize",
}

// etcTrees are directories below which every public file is copied: the
// settings of language runtimes whose installation in /usr links to them.
var etcTrees = []string{
	"/etc/ld.so.conf.d", "/etc/python3*", "/etc/java-*-openjdk", "/etc/perl", "/etc/fonts",
	"/etc/terminfo", "/etc/crypto-policies/back-ends", "/etc/ImageMagick-*",
}

// etcNever names files that can hold secrets although programs need their
// neighbours.
func etcNever(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "secret", "token", "credential", ".key", ".pem", ".p12"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return name == "management"
}

// caBundles are the places of the public certificate authorities, by
// distribution; the first that exists is taken.
var caBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
}

// javaAuthorities is the same in Java's format.
const javaAuthorities = "/etc/ssl/certs/java/cacerts"

// etcSources lists whose changes change the skeleton.
func etcSources() []string {
	paths := append([]string{"/etc/alternatives", javaAuthorities}, etcFiles...)
	paths = append(paths, caBundles...)
	for _, pattern := range etcTrees {
		found, err := filepath.Glob(pattern)
		if err == nil { // the patterns are constants
			paths = append(paths, found...)
		}
	}
	return paths
}

// etc fills /etc: written where it says who and where the sandbox is, copied
// where it describes /usr.
func (b *skeleton) etc() {
	b.accounts()
	b.file("/etc/hostname", "sandbox\n", 0o644)
	b.file("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n", 0o644)
	b.file("/etc/resolv.conf", "", 0o644)
	b.file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n"+
		"networks: files\nprotocols: files\nservices: files\nrpc: files\n", 0o644)
	b.file("/etc/host.conf", "multi on\n", 0o644)
	b.file("/etc/profile", "export PATH="+hostPath+"\numask 022\n"+
		"for script in /etc/profile.d/*.sh; do [ -r \"$script\" ] && . \"$script\"; done\nunset script\n", 0o644)
	b.dir("/etc/profile.d", 0o755)
	b.file("/etc/machine-id", "", 0o444)
	b.file("/etc/ssl/openssl.cnf", "# OpenSSL's built-in defaults hold.\n", 0o644)
	b.link("/etc/mtab", "/proc/self/mounts")
	for _, path := range etcFiles {
		b.copy(path)
	}
	for _, pattern := range etcTrees {
		found, err := filepath.Glob(pattern)
		b.fail(err)
		for _, dir := range found {
			b.tree(dir)
		}
	}
	b.alternatives()
	b.authorities()
}

func (b *skeleton) accounts() {
	b.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"+
		"user:x:1000:1000:user:/home/user:/bin/sh\n"+
		"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n", 0o644)
	b.file("/etc/group", "root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n", 0o644)
	b.file("/etc/shadow", "root:*::0:::::\nuser:*::0:::::\nnobody:*::0:::::\n", 0o600)
}

// tree copies what is public below a directory of /etc.
func (b *skeleton) tree(dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil: // not readable: not public
			return nil //nolint:nilerr // left out on purpose
		case etcNever(d.Name()) && d.IsDir():
			return fs.SkipDir
		case etcNever(d.Name()):
			return nil
		case d.IsDir():
			b.dirAll(path, 0o755)
		default:
			b.copy(path)
		}
		return b.err
	})
	b.fail(err)
}

// alternatives copies the links of /etc/alternatives that lead into /usr.
func (b *skeleton) alternatives() {
	const dir = "/etc/alternatives"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // the distribution has none
	}
	b.dir(dir, 0o755)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if target, err := os.Readlink(path); err == nil && staysInside(path, target) &&
			!strings.HasPrefix(target, "/usr/local/") {
			b.link(path, target)
		}
	}
}

// authorities puts the certificate authorities where the libraries of each
// distribution look for them. Private keys are never read.
func (b *skeleton) authorities() {
	for _, path := range caBundles {
		info, err := os.Stat(path)
		if err != nil || info.Size() > maxEtcFile {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if strings.Contains(string(content), "PRIVATE KEY") {
			continue
		}
		b.file(caBundles[0], string(content), 0o644)
		for _, other := range caBundles[1:] {
			b.link(other, caBundles[0])
		}
		break
	}
	if info, err := os.Stat(javaAuthorities); err == nil && info.Size() <= maxEtcFile {
		b.copy(javaAuthorities)
	}
}
