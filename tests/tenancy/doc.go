// Package tenancy shows that nothing crosses projects: it walks every
// operation of the live OpenAPI document with another project's ids, through
// the real gateway, executor and records.
package tenancy
