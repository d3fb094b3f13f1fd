package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Each script asks the program itself what can come next; where it has no
// answer the shell offers files.
var completionScripts = map[string]string{
	"bash": `_faas() {
	local IFS=$'\n'
	COMPREPLY=($(faas complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _faas faas
`,
	"zsh": `#compdef faas
_faas() {
	local -a found
	found=("${(@f)$(faas complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "${found[*]}" ]]; then compadd -a found; else _files; fi
}
if [[ "${funcstack[1]}" == _faas ]]; then _faas "$@"; else compdef _faas faas; fi
`,
	"fish": `function __faas_complete
	set -l words (commandline -opc) (commandline -ct)
	faas complete -- $words[2..-1] 2>/dev/null
end
complete -c faas -a '(__faas_complete)'
`,
}

// Run implements the command.
func (c *completionCommand) Run() error {
	_, err := os.Stdout.WriteString(completionScripts[c.Shell])
	return err
}

type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints what can come in place of the last word, one a line.
func (c *completeCommand) Run(ctx *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range complete(ctx.Model.Node, words) {
		fmt.Println(candidate)
	}
	return nil
}

// complete returns the words that can stand in place of the last one.
func complete(root *kong.Node, words []string) []string {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	node, flags, pending := root, slices.Clone(root.Flags), (*kong.Flag)(nil)
	for _, word := range words[:len(words)-1] {
		switch {
		case pending != nil:
			pending = nil
		case word == "--":
			return nil // what follows is not ours
		case strings.HasPrefix(word, "-"):
			if found := findFlag(flags, word); found != nil && !found.IsBool() && !strings.Contains(word, "=") {
				pending = found
			}
		default:
			if child := findChild(node, word); child != nil {
				node = child
				flags = append(flags, child.Flags...)
			} else if len(node.Positional) > 0 && node.Positional[0].Passthrough {
				return nil
			}
		}
	}
	return matching(candidates(node, flags, pending, last), last)
}

// candidates lists what the grammar allows next.
func candidates(node *kong.Node, flags []*kong.Flag, pending *kong.Flag, last string) []string {
	if pending != nil {
		return values(pending.Value)
	}
	var all []string
	if strings.HasPrefix(last, "-") {
		for _, f := range flags {
			if f.Hidden {
				continue
			}
			all = append(all, "--"+f.Name)
		}
		return all
	}
	for _, child := range node.Children {
		if !child.Hidden {
			all = append(all, child.Name)
		}
	}
	for _, positional := range node.Positional {
		all = append(all, values(positional)...)
	}
	return all
}

func values(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return strings.Split(v.Enum, ",")
}

func matching(all []string, start string) []string {
	all = slices.DeleteFunc(all, func(word string) bool { return !strings.HasPrefix(word, start) })
	slices.Sort(all)
	return slices.Compact(all)
}

func findFlag(flags []*kong.Flag, word string) *kong.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	for _, f := range flags {
		if f.Name == name || len(name) == 1 && f.Short == rune(name[0]) {
			return f
		}
	}
	return nil
}

func findChild(node *kong.Node, word string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == word {
			return child
		}
	}
	return nil
}
