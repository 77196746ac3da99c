-- What is known of mailboxes that are heard without events: snapshot is JSON of UIDs and flags. fence is that of the lease it was written with.
CREATE TABLE push_heard (
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    snapshot TEXT NOT NULL,
    fence BIGINT NOT NULL,
    PRIMARY KEY (context, user_name)
);
