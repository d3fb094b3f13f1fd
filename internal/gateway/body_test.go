package gateway

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/faas-platform/faas/api"
)

// form is a body with every kind of field.
type form struct {
	Word   string        `json:"word" enum:"a,b"`
	Number int64         `json:"number,omitempty" minimum:"1" maximum:"9"`
	Cores  float64       `json:"cores,omitempty" exclusiveMinimum:"0"`
	Flag   *bool         `json:"flag,omitempty"`
	Env    api.Variables `json:"env,omitempty"`
	Old    api.Variables `json:"old_env,omitempty" alias:"env"`
	Net    *api.Network  `json:"net,omitempty"`
	Data   api.Bytes     `json:"data,omitempty" maxItems:"3"`
	ID     string        `json:"id,omitempty" maxLength:"4"`
	OldID  string        `json:"old_id,omitempty" alias:"id"`
	List   []item        `json:"list,omitempty" maxItems:"2"`
	Inner  *item         `json:"inner,omitempty"`
}

type item struct {
	Name string `json:"name"`
}

func TestDecodeBody(t *testing.T) {
	yes := true
	for body, want := range map[string]form{
		`{"word":"a"}`: {Word: "a"},
		`{"word":"b","number":9,"cores":0.5,"flag":true}`:         {Word: "b", Number: 9, Cores: .5, Flag: &yes},
		`{"word":"a","number":null,"inner":null}`:                 {Word: "a"},
		`{"word":"a","old_env":[["A","b"]]}`:                      {Word: "a", Env: api.Variables{"A": "b"}, Old: api.Variables{"A": "b"}},
		`{"word":"a","old_id":"x","id":"x"}`:                      {Word: "a", ID: "x", OldID: "x"},
		`{"word":"a","net":"egress"}`:                             {Word: "a", Net: &api.Network{Mode: "egress"}},
		`{"word":"a","net":{"mode":"none"}}`:                      {Word: "a", Net: &api.Network{Mode: "none"}},
		`{"word":"a","data":[1,255]}`:                             {Word: "a", Data: api.Bytes{1, 255}},
		`{"word":"a","data":"Af8="}`:                              {Word: "a", Data: api.Bytes{1, 255}},
		`{"word":"a","list":[{"name":"x"}],"inner":{"name":"y"}}`: {Word: "a", List: []item{{"x"}}, Inner: &item{"y"}},
	} {
		var got form
		if err := decodeBody([]byte(body), &got); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestDecodeBodyRefuses(t *testing.T) {
	for body, want := range map[string]map[string]string{
		`{}`:                                   {"word": "is required"},
		`{"word":"c"}`:                         {"word": "must be one of a, b"},
		`{"word":1}`:                           {"word": "must be a string"},
		`{"word":"a\u0000"}`:                   {"word": "must not contain NUL"},
		`{"word":"a","word":"a"}`:              {"word": "is given twice"},
		`{"word":"a","colour":1}`:              {"colour": "there is no such field"},
		`{"word":"a","number":0}`:              {"number": "must be at least 1"},
		`{"word":"a","number":1.5}`:            {"number": "must be a whole number"},
		`{"word":"a","cores":0}`:               {"cores": "must be above 0"},
		`{"word":"a","flag":"yes"}`:            {"flag": "must be true or false"},
		`{"word":"a","data":[256]}`:            {"data": "must be standard base64 or an array of bytes, 0 to 255"},
		`{"word":"a","data":"AAECAw=="}`:       {"data": "must not have more than 3 items"},
		`{"word":"a","id":"abcde"}`:            {"id": "must not be longer than 4 bytes"},
		`{"word":"a","id":"x","old_id":"y"}`:   {"old_id": "contradicts id"},
		`{"word":"a","env":[["A"]]}`:           {"env": "must be an object of strings or an array of [name, value] pairs"},
		`{"word":"a","list":[{},{"nam":1}]}`:   {"list[0].name": "is required", "list[1].nam": "there is no such field"},
		`{"word":"a","list":{}}`:               {"list": "must be an array of objects"},
		`{"word":"a","inner":[]}`:              {"inner": "must be an object"},
		`{"word":"a","list":[{"name":"x"},7]}`: {"list[1]": "must be an object"},
	} {
		err := decodeBody([]byte(body), &form{})
		var input *inputError
		if !errors.As(err, &input) {
			t.Errorf("%s: %v", body, err)
			continue
		}
		got := map[string]string{}
		for _, f := range input.fields {
			got[f.Field] = f.Reason
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
	for _, body := range []string{`[]`, `7`, ``, `{"word":`, `{"word":"a"} x`, "{\"word\":\"\xff\"}"} {
		if err := decodeBody([]byte(body), &form{}); err == nil {
			t.Errorf("%q was accepted", body)
		}
	}
}

func TestUnknownFieldsHaveARemedy(t *testing.T) {
	err := decodeBody([]byte(`{"word":"a","nmuber":1}`), &form{})
	problem, _ := problemOf(err, "req")
	if problem.Remedy != "did you mean number? GET /openapi.json describes every field" {
		t.Errorf("remedy %q", problem.Remedy)
	}
}

func FuzzDecodeBody(f *testing.F) {
	f.Add([]byte(`{"word":"a","list":[{"name":"x"}],"old_id":"x","env":[["a","b"]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var first, again form
		if decodeBody(body, &first) != nil {
			return
		}
		encoded, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeBody(encoded, &again); err != nil {
			t.Fatalf("%s was accepted, its encoding %s was not: %v", body, encoded, err)
		}
	})
}
