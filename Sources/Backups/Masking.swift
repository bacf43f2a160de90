import Foundation
import Hashing
import Postgres
import SQL

/// Rules by which a restore replaces the values of columns, for a copy that is given to people who must not see the
/// original values.
///
/// Equal values get equal masks, so that foreign keys still match. A mask depends on a secret salt, so that nobody can
/// find the original value by hashing guesses.
public struct MaskingRules: Sendable, Equatable {
    public enum Mask: String, Sendable, CaseIterable {
        /// A hash of the value, shortened to the length that the column allows.
        case hash
        case null
        /// A made-up value of the kind that the column's name suggests: an address, a name, a number, a text.
        case fake
    }

    /// The masks by schema, table and column.
    public let rules: [String: [String: [String: Mask]]]

    public init(_ rules: [String: [String: [String: Mask]]]) { self.rules = rules }

    public var isEmpty: Bool { rules.isEmpty }

    /// Returns the UPDATE statements that mask the columns, one for each table. Pure: no I/O.
    ///
    /// - Parameter columns: the type of each existing column, by schema, table and name.
    /// - Throws: `BackupError.notInBackup` for a rule whose column does not exist, so that a misspelled rule does not
    ///   leave a column unmasked.
    func statements(_ columns: [String: [String: [String: String]]], salt: String) throws -> [String] {
        try rules.sorted { $0.key < $1.key }.flatMap { schema, tables in
            try tables.sorted { $0.key < $1.key }.map { table, masks in
                let sets = try masks.sorted { $0.key < $1.key }.map { column, mask in
                    guard let type = columns[schema]?[table]?[column] else {
                        throw BackupError.notInBackup("column \(schema).\(table).\(column), which 'mask' names")
                    }
                    return "\(quoteIdentifier(column)) = \(Self.expression(mask, column: column, type: type, salt))"
                }
                return "UPDATE \(quoteIdentifier(schema)).\(quoteIdentifier(table)) SET \(sets.joined(separator: ", "))"
            }
        }
    }

    private static func expression(_ mask: Mask, column: String, type: String, _ salt: String) -> String {
        let name = quoteIdentifier(column)
        let key = "convert_to(\(quoteLiteral(salt)) || format('%s', \(name)), 'UTF8')"
        let hex = "encode(sha256(\(key)), 'hex')"
        let value: String
        switch (mask, family(of: type)) {
        case (.null, _): return "NULL"
        // The number has at most 13 digits. Such numbers are exact as bigint, as double precision, and in JavaScript.
        case (_, .number): value = "('x' || substr(\(hex), 1, 11))::bit(44)::bigint % \(numberLimit(type))"
        case (_, .uuid): value = "substr(\(hex), 1, 32)"
        case (_, .bytes): value = "sha256(\(key))"
        case (_, .json): value = "to_jsonb(\(hex))"
        case (_, .time):
            value = "timestamptz '2000-01-01' + (('x' || substr(\(hex), 1, 7))::bit(28)::int % 9000) * interval '1 day'"
        case (_, .address): value = "'10.' || get_byte(sha256(\(key)), 0) || '.' || get_byte(sha256(\(key)), 1) || '.1'"
        case (_, .truth): value = "get_byte(sha256(\(key)), 0) % 2 = 0"
        case (.hash, .text): value = fitted(hex, type)
        case (.fake, .text): value = fitted(fake(column, hex), type)
        }
        return "CASE WHEN \(name) IS NOT NULL THEN (\(value))::\(type) END"
    }

    private enum Family { case text, number, uuid, bytes, json, time, address, truth }

    private static func family(of type: String) -> Family {
        switch type.prefix(while: { $0 != "(" && $0 != " " }) {
        case "smallint", "integer", "bigint", "numeric", "real", "double": .number
        case "uuid": .uuid
        case "bytea": .bytes
        case "json", "jsonb": .json
        case "date", "timestamp": .time
        case "inet", "cidr": .address
        case "boolean": .truth
        default: .text
        }
    }

    private static func numberLimit(_ type: String) -> String {
        if type == "smallint" { return "32767" }
        if type == "integer" { return "2147483647" }
        guard type.hasPrefix("numeric("), let digits = Int(type.dropFirst(8).prefix { $0.isNumber }) else {
            return "10000000000000"
        }
        let scale = type.split(separator: ",").dropFirst().first.flatMap { Int($0.prefix { $0.isNumber }) } ?? 0
        return "1" + String(repeating: "0", count: max(0, min(13, digits - scale)))
    }

    private static func fake(_ column: String, _ hex: String) -> String {
        let name = column.lowercased()
        func has(_ words: String...) -> Bool { words.contains { name.contains($0) } }
        if has("mail") { return "'user-' || substr(\(hex), 1, 12) || '@example.invalid'" }
        if has("url", "link", "site") { return "'https://example.invalid/' || substr(\(hex), 1, 12)" }
        if has("phone", "mobile", "fax") {
            return "'+1555' || lpad(((('x' || substr(\(hex), 1, 7))::bit(28)::int) % 10000000)::text, 7, '0')"
        }
        if has("name", "author", "user") { return "'Person ' || substr(\(hex), 1, 8)" }
        if has("street", "address", "city") { return "substr(\(hex), 1, 2) || ' Example Street'" }
        return "'text ' || substr(\(hex), 1, 12)"
    }

    /// Shortens a value to the length that `character(n)` or `character varying(n)` allows.
    private static func fitted(_ value: String, _ type: String) -> String {
        guard type.hasPrefix("character"), let open = type.firstIndex(of: "("),
            let length = Int(type[type.index(after: open)...].prefix { $0.isNumber })
        else { return value }
        return "left(\(value), \(length))"
    }

    /// Masks a database in one transaction.
    ///
    /// - Throws: `PostgresError`, `BackupError.notInBackup`.
    func apply(on connection: isolated Connection) throws {
        var columns: [String: [String: [String: String]]] = [:]
        for row in try connection.query(
            """
            SELECT n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
            FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname = ANY ($1::text[])
            """, [Array(rules.keys)])
        {
            let column: String = try row.get(2)
            columns[try row.get(0, as: String.self), default: [:]][try row.get(1, as: String.self), default: [:]][
                column] =
                try row.get(3, as: String.self)
        }
        // The salt is used only for this restore, and is not stored.
        let salt = Digest.hex((0..<16).map { _ in UInt8.random(in: 0...255) })
        let statements = try statements(columns, salt: salt)
        try connection.transaction { for statement in statements { try connection.execute(statement) } }
    }
}
