import Postgres

/// The table of events, for observers. Each insertion sends `NOTIFY reeve_events`.
public enum Events {
    /// The table, in the first version of the ledger.
    static let table = """
        CREATE TABLE reeve.events (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            at timestamptz NOT NULL DEFAULT clock_timestamp(),
            kind text NOT NULL,
            subject text NOT NULL,
            detail jsonb NOT NULL DEFAULT '{}'
        );
        CREATE FUNCTION reeve.announce_events() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            NOTIFY reeve_events;
            RETURN NULL;
        END $$;
        CREATE TRIGGER announce AFTER INSERT ON reeve.events
            FOR EACH STATEMENT EXECUTE FUNCTION reeve.announce_events();
        """

    /// Records an event in the open transaction. Observers see the event when the transaction commits.
    ///
    /// - Parameters:
    ///   - kind: the event as `noun.verb`, for instance `migration.applied`.
    ///   - subject: the object of the event.
    public static func record(
        _ kind: String, subject: String, detail: JSONText = JSONText("{}"), on connection: isolated Connection
    ) throws {
        try connection.query(
            "INSERT INTO reeve.events (kind, subject, detail) VALUES ($1, $2, $3::jsonb)",
            [LedgerText.clean(kind), LedgerText.clean(subject), LedgerText.clean(detail)])
    }
}
