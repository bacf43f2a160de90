import Foundation
import Postgres
import TestSupport
import Testing

/// Batches of the system csvbatch, for its tests. The search path of the connection is the system's schema.
enum CSVBatchFixture {
    static let owner = "00000000-0000-4000-8000-00000000000a"
    static let stranger = "00000000-0000-4000-8000-00000000000b"

    /// Makes a batch.
    ///
    /// - Parameter total: what `total_rows` declares, by default the number of rows.
    static func batch(
        _ connection: isolated Connection, rows: Int, total: Int? = nil, status: String = "uploaded",
        user: String = owner
    ) throws -> UUID {
        try connection.execute("SET search_path = csvbatch")
        let row = try connection.query(
            """
            INSERT INTO csv_batches (user_id, filename, original_filename, total_rows, status)
            VALUES ($1, 'f.csv', 'f.csv', $2, $3) RETURNING id
            """, [user, total ?? rows, status]
        ).first
        let id: UUID = try #require(row).get(0)
        try addRows(connection, to: id, 1...max(rows, 1), onlyIf: rows > 0)
        return id
    }

    static func addRows(
        _ connection: isolated Connection, to batch: UUID, _ numbers: ClosedRange<Int>, onlyIf isWanted: Bool = true
    ) throws {
        guard isWanted else { return }
        try connection.query(
            """
            INSERT INTO csv_row_jobs (batch_id, row_number, row_data)
            SELECT $1, g, '{"mpn": "x"}' FROM generate_series($2::integer, $3::integer) g
            """, [batch, numbers.lowerBound, numbers.upperBound])
    }

    /// `status processed/successful/failed of total, open rows`.
    static func state(_ connection: isolated Connection, _ batch: UUID) throws -> String {
        let row = try connection.query(
            """
            SELECT format('%s %s/%s/%s of %s, %s open', status, processed_rows, successful_rows, failed_rows, total_rows,
                open_rows) FROM csv_batches WHERE id = $1
            """, [batch]
        ).first
        return try #require(row).get(0)
    }

    /// A row that was claimed.
    struct Claim {
        let job: UUID
        let batch: UUID
        let row: Int
        let number: Int
    }

    static func claim(
        _ connection: isolated Connection, _ worker: String, batch: UUID? = nil, timeout: Int = 30
    ) throws -> Claim? {
        guard
            let row = try connection.query(
                "SELECT * FROM claim_next_csv_row_job($1, $2, $3)", [worker, batch, timeout]
            ).first
        else { return nil }
        return try Claim(
            job: row.get("job_id"), batch: row.get("job_batch_id"), row: row.get("row_number"),
            number: row.get("claim_number"))
    }

    /// Stores a result, as the specification's call does unless the claim is told.
    static func store(
        _ connection: isolated Connection, _ job: UUID, _ status: String, worker: String? = nil, number: Int? = nil
    ) throws -> Bool {
        let row = try connection.query(
            """
            SELECT update_csv_row_job_result($1, $2, coalesce($3 || '/' || $4::text, 'plain'), worker_id => $3,
                claim_number => $4::integer)
            """, [job, status, worker, number]
        ).first
        return try #require(row).get(0)
    }

    /// What the checks of a restored copy say of this database.
    static func unproved(_ connection: isolated Connection) throws -> [String] {
        let file = "\(ShippedFixture.repository)/backups/checks/csvbatch/rows.sql"
        let sql = try String(contentsOfFile: file, encoding: .utf8).replacing("%schema%", with: "csvbatch")
        return try connection.query(sql).map { try "\($0.get(0, as: String.self)) \($0.get(1, as: String.self))" }
    }
}
