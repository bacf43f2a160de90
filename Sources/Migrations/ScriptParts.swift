import Foundation

/// Divides a file with both directions of a migration into its parts.
///
/// A line that contains only one of these comments begins a part: `-- reeve: up` or `-- reeve: down`, and the forms of
/// other tools: `-- migrate:up` (dbmate), `-- +goose Up` (goose), `-- +migrate Up` (sql-migrate), `-- rambler up`
/// (rambler) and `---- create above / drop below ----` (tern). Comments before a marker `up` belong to both parts. A
/// file without markers is the up part.
struct ScriptParts {
    let up: [UInt8]
    /// nil if the file has no down part.
    let down: [UInt8]?

    private enum Marker { case up, down }

    /// - Throws: `MigrationError.badParts` if a part is there twice, or if the down part is before the up part.
    init(_ bytes: [UInt8], path: String) throws {
        var upStart: (line: Int, offset: Int)?
        var downStart: (line: Int, offset: Int)?
        for (number, range) in Self.lines(bytes) {
            guard let marker = try Self.marker(bytes[range], at: "\(path):\(number)") else { continue }
            let place = (number, range.lowerBound)
            switch marker {
            case .up where upStart == nil && downStart == nil: upStart = place
            case .down where downStart == nil: downStart = place
            default:
                throw MigrationError.badParts(location: "\(path):\(number)")
            }
        }
        guard let downStart else {
            (up, down) = (bytes, nil)
            return
        }
        up = Array(bytes[..<downStart.offset])
        // The up part becomes blank lines, so that errors in the down part have the right line.
        let header = upStart.map { Self.isComment(bytes[..<$0.offset]) ? $0.offset : 0 } ?? 0
        let blank = bytes[header..<downStart.offset].map { $0 == UInt8(ascii: "\n") ? $0 : UInt8(ascii: " ") }
        down = Array(bytes[..<header]) + blank + Array(bytes[downStart.offset...])
    }

    private static func isComment(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.split(separator: UInt8(ascii: "\n")).allSatisfy { line in
            let text = line.drop { $0 <= 0x20 }
            return text.isEmpty || text.starts(with: "--".utf8)
        }
    }

    private static func lines(_ bytes: [UInt8]) -> [(Int, Range<Int>)] {
        // Most files have no down part. Only lines with a comment are examined.
        guard bytes.contains(UInt8(ascii: "-")) else { return [] }
        var lines: [(Int, Range<Int>)] = []
        // A byte order mark.
        var (start, number) = (bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0, 1)
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
            let text = bytes[start..<end].drop { $0 <= 0x20 }
            if text.count >= 5, text.starts(with: "--".utf8) { lines.append((number, start..<end)) }
            (start, number) = (end + 1, number + 1)
        }
        return lines
    }

    /// The markers of other tools are recognised only at the beginning of a line, as these tools do.
    ///
    /// - Throws: `MigrationError.badDirective` if other text follows a marker of Reeve, or for a directive of another
    ///   tool that Reeve does not follow.
    private static func marker(_ line: ArraySlice<UInt8>, at location: String) throws -> Marker? {
        let text = String(decoding: line, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines).lowercased()
        if let match = text.wholeMatch(of: /--+\s*reeve\s*:\s*(up|down)\b(.*)/) {
            guard match.2.isEmpty else {
                throw MigrationError.badDirective(
                    location: location, "'-- reeve: \(match.1)' is followed by other text",
                    hint: "write the marker on a line of its own")
            }
            return match.1 == "up" ? .up : .down
        }
        guard line.first == UInt8(ascii: "-") else { return nil }
        let words = text.dropFirst(2).split(whereSeparator: \.isWhitespace)
        switch words.first {
        case "migrate:up": return .up
        case "migrate:down": return .down
        case "+goose" where words.dropFirst().starts(with: ["envsubst", "on"]):
            throw MigrationError.badDirective(
                location: location, "goose's substitution of environment variables is not supported",
                hint: "write the values, or read them in SQL with current_setting()")
        case "+goose" where words.count >= 2, "+migrate" where words.count >= 2, "rambler" where words.count >= 2:
            return words[1] == "up" ? .up : words[1] == "down" ? .down : nil
        case "--" where text == "---- create above / drop below ----": return .down
        default: return nil
        }
    }

    /// Returns whether a line of another tool's marker, or a directive of that tool, says that the part must not run in
    /// a transaction: `-- migrate:up transaction:false` (dbmate), `-- +goose NO TRANSACTION` (goose) and
    /// `-- +migrate Up notransaction` (sql-migrate).
    static func refusesTransaction(_ line: String) -> Bool {
        let words = line.lowercased().split(whereSeparator: { $0.isWhitespace || $0 == "-" })
        switch words.first {
        case "migrate:up", "migrate:down": return words.contains("transaction:false")
        case "+goose": return words.dropFirst().starts(with: ["no", "transaction"])
        case "+migrate": return words.contains("notransaction")
        default: return false
        }
    }
}
