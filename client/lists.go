package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"

	"github.com/faas-platform/faas"
)

// ListOptions bounds one page of a list.
type ListOptions struct {
	Limit  int    // 1 to 1000; 0: 50
	Cursor string // the next cursor of the page before; "": from the start
}

func (o ListOptions) query() url.Values {
	q := url.Values{}
	if o.Limit != 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return set(q, "cursor", o.Cursor)
}

// set sets what is not empty.
func set(q url.Values, name, value string) url.Values {
	if value != "" {
		q.Set(name, value)
	}
	return q
}

func setLabels(q url.Values, labels map[string]string) url.Values {
	for name, value := range labels {
		q.Add("label", name+"="+value)
	}
	return q
}

// each walks a list page by page. An error ends it.
func each[T any](page func(cursor string) (items []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			items, next, err := page(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}

// allPage is the size of a page of those that walk a whole list.
const allPage = 200

// AllExecutions walks every execution, newest first, page by page.
func (c *Client) AllExecutions(ctx context.Context) iter.Seq2[faas.Execution, error] {
	return each(func(cursor string) ([]faas.Execution, string, error) {
		page, err := c.Executions(ctx, allPage, cursor)
		if err != nil {
			return nil, "", err
		}
		return page.Executions, page.NextCursor, nil
	})
}
