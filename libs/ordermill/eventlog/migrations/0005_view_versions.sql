-- Which version of its code wrote all that a view holds; 0 where that is not known, or was more than one.

CREATE TABLE view_versions (
    view    text PRIMARY KEY,
    version integer NOT NULL
);
