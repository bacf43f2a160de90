import Postgres

/// What happened, for those who watch: a table that `NOTIFY reeve_events` tells about.
public enum Events {
    /// Records an event in the open transaction; watchers see it when that commits.
    ///
    /// - Parameters:
    ///   - kind: what happened, as `noun.verb`, for instance `migration.applied`.
    ///   - subject: to what.
    public static func record(
        _ kind: String, subject: String, detail: JSONText = JSONText("{}"), on connection: isolated Connection
    ) throws {
        try connection.query(
            "INSERT INTO reeve.events (kind, subject, detail) VALUES ($1, $2, $3::jsonb)",
            [LedgerText.clean(kind), LedgerText.clean(subject), LedgerText.clean(detail)])
    }
}
