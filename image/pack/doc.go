// Package pack writes overlay layers as tars. It is linked into the agent and
// so depends on little.
package pack
