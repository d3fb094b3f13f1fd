package api

import "time"

// Paths of the routes about images.
const (
	PathImages      = "/api/v1/images"
	PathImagePull   = "/api/v1/images/pull"
	PathImageImport = "/api/v1/images/import"
)

// Image is an image that the project may use.
type Image struct {
	Names     []string  `json:"names" doc:"References under which the project uses it."`
	Digest    string    `json:"digest"`
	Platform  string    `json:"platform" example:"linux/amd64"`
	Source    string    `json:"source" enum:"pull,import,host"`
	SizeBytes int64     `json:"size_bytes" doc:"Unpacked; layers that images share are stored once."`
	Layers    int       `json:"layers"`
	AddedAt   time.Time `json:"added_at"`
	InUse     int       `json:"in_use" doc:"Sandboxes and snapshots that hold it."`
}

// ImageList is every image that the project may use, the host's first.
type ImageList struct {
	Images []Image `json:"images"`
}

// PullImageRequest asks for an image from a registry.
type PullImageRequest struct {
	Image    string `json:"image" minLength:"1" maxLength:"512" doc:"OCI reference." example:"ghcr.io/you/app:1"`
	Platform string `json:"platform,omitempty" maxLength:"64" doc:"os/arch[/variant]. Default: linux on the server's machine's."`
	Policy   string `json:"policy,omitempty" enum:"missing,always,never" doc:"When to ask the registry. Default: always."`
}

// PullEvent is one event of a pull that is watched: progress, and at the end
// image or error.
type PullEvent struct {
	Type  string   `json:"type" enum:"progress,image,error"`
	Step  string   `json:"step,omitempty" doc:"resolve, wait, download DIGEST or unpack DIGEST."`
	Done  int64    `json:"done,omitempty" doc:"Bytes."`
	Total int64    `json:"total,omitempty" doc:"Bytes; absent: not known."`
	Image *Image   `json:"image,omitempty"`
	Error *Problem `json:"error,omitempty"`
}

// RemovedImage is what removing an image freed.
type RemovedImage struct {
	Image      string `json:"image"`
	FreedBytes int64  `json:"freed_bytes" doc:"0 while others need its layers."`
}
