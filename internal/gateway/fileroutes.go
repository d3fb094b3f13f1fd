package gateway

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas/api"
)

// rawRoute is an operation that reads and writes HTTP itself.
type rawRoute struct {
	op  huma.Operation
	run http.HandlerFunc
}

func inQuery(name, doc string, schema *huma.Schema, required bool) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: doc, Schema: schema, Required: required}
}

func boolForm() *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }

func pathParam() *huma.Param {
	param := inQuery("path", "Absolute.", stringForm(), true)
	param.Example = "/work/data.csv"
	return param
}

func binary(mediaType, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{
		mediaType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
	}}}
}

func binaryBody(mediaTypes ...string) *huma.RequestBody {
	body := &huma.RequestBody{Content: map[string]*huma.MediaType{}}
	for _, name := range mediaTypes {
		body.Content[name] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}, Examples: map[string]*huma.Example{
			"content": {Summary: "The content as it is", Value: "a,b\n1,2\n"},
		}}
	}
	return body
}

// fileRoutes are those that stream.
func (g *Gateway) fileRoutes() []rawRoute {
	described := map[string]*huma.Response{"200": {Description: "What then is there.", Content: map[string]*huma.MediaType{
		"application/json": {Schema: g.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.FileInfo](), true, "FileInfo"), Example: exampleFile},
	}}}
	op := func(id, method, path, summary, description string, failures []int, params ...*huma.Param) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: api.PathInstances + "/{id}" + path, Tags: []string{"files"}, Summary: summary, Description: description,
			Parameters: append([]*huma.Param{pathID("Id of the instance, or its name."), pathParam()}, params...), Errors: failures,
		}
	}
	read := op("read-file", http.MethodGet, "/files", "Read a file of an instance",
		"Streams, whatever the size. `Range`, `If-Range`, `If-None-Match` and `If-Modified-Since` work as HTTP says.", changeErrors)
	read.Responses = binary("application/octet-stream", "The content.")
	read.Responses["206"] = &huma.Response{Description: "The ranges asked for."}
	read.Responses["304"] = &huma.Response{Description: "It has not changed."}
	read.Responses["200"].Headers = map[string]*huma.Param{
		api.HeaderFileMode:  {Description: "Permissions in octal.", Schema: stringForm()},
		api.HeaderFileOwner: {Description: "uid:gid", Schema: stringForm()},
	}
	write := op("write-file", http.MethodPut, "/files", "Write a file of an instance",
		"The body is the content, of any size, streamed. The file is replaced when all of it has come, and never half: a connection that breaks leaves the old one.", changeErrors,
		inQuery("mode", "Permissions in octal of a new file. Default: 0644. A file that is there keeps its own.", &huma.Schema{Type: huma.TypeString, Pattern: "^[0-7]{1,4}$"}, false),
		inQuery("user", "Owner: name or uid[:gid] inside. Default: that of the file that was there, else root.", stringForm(), false),
		inQuery("parents", "Make missing directories. Default: true.", boolForm(), false),
		inQuery("append", "Add to the end, in place.", boolForm(), false),
		inQuery("directory", "Make a directory, with its parents; without a body.", boolForm(), false))
	write.RequestBody, write.Responses = binaryBody("application/octet-stream"), described
	tarOut := op("read-archive", http.MethodGet, "/archive", "Read a directory of an instance as a tar archive",
		"Names are relative to the path. Streams, whatever the size.", changeErrors)
	tarOut.Responses = binary("application/x-tar", "The archive.")
	tarIn := op("write-archive", http.MethodPut, "/archive", "Unpack a tar archive into a directory of an instance",
		"The directory is made when missing. A member that would come to lie outside of it is refused. `application/gzip` is unpacked on the way.", changeErrors)
	tarIn.RequestBody, tarIn.Responses = binaryBody("application/x-tar", "application/gzip"), described
	return []rawRoute{
		{read, g.readFile},
		{write, g.writeFile},
		{tarOut, g.readArchive},
		{tarIn, g.writeArchive},
	}
}
