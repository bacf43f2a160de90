import Foundation

/// A common mistake in a URL that was written for another library.
enum ConnectionStringProblem {
    case foreignDriver(scheme: String)
    case unknownScheme(String)
    case unescapedAt

    init?(_ text: String) {
        guard let separator = text.range(of: "://") else { return nil }
        let scheme = text[..<separator.lowerBound].lowercased()
        if scheme.contains("+") {
            self = .foreignDriver(scheme: scheme)
        } else if scheme != "postgresql", scheme != "postgres" {
            self = .unknownScheme(scheme)
        } else if text[separator.upperBound...].prefix(while: { $0 != "/" && $0 != "?" }).count(where: { $0 == "@" })
            > 1
        {
            self = .unescapedAt
        } else {
            return nil
        }
    }

    var error: PostgresError {
        switch self {
        case .foreignDriver(let scheme):
            PostgresError(
                .configuration, "the URL's scheme '\(scheme)' belongs to another library",
                hint: "write postgresql:// instead of \(scheme)://")
        case .unknownScheme(let scheme):
            PostgresError(
                .configuration, "the URL's scheme '\(scheme)' is not a scheme of PostgreSQL",
                hint: "write postgresql://…")
        case .unescapedAt:
            PostgresError(
                .configuration, "the URL has more than one '@' before the database's name",
                hint: "write %40 for an '@' in the user name or the password")
        }
    }
}

/// Masks secrets in libpq's error about a connection string that it cannot parse. libpq repeats the rejected part
/// between double quotes.
struct ConnectionStringSecrets {
    /// Parts of the string that contain a password, or may contain the rest of a password.
    private let regions: [String]

    init(_ text: String) {
        var regions: [String] = []
        if let scheme = text.range(of: "://") {
            let authority = text[scheme.upperBound...]
            // The password ends before the last '@', because an '@' that is not escaped belongs to the password.
            if let at = authority.lastIndex(of: "@"), let colon = authority[..<at].firstIndex(of: ":") {
                regions.append(String(authority[authority.index(after: colon)..<at]))
            }
            for pair in text.split(separator: "?").dropFirst().joined(separator: "?").split(separator: "&")
            where Self.words.contains(where: { pair.lowercased().contains($0) }) {
                regions.append(pair.split(separator: "=", maxSplits: 1).dropFirst().joined())
            }
        } else if let word = Self.words.compactMap({ text.range(of: $0, options: .caseInsensitive) })
            .min(by: { $0.lowerBound < $1.lowerBound })
        {
            // A space that is not quoted ends the password early, and libpq takes the next word for a keyword.
            // Therefore everything from the first `=` on is masked.
            let rest = text[word.upperBound...]
            regions.append(String(rest[(rest.firstIndex(of: "=") ?? rest.startIndex)...]))
        }
        self.regions = regions.filter { !$0.isEmpty }
    }

    /// Parts of the names of the secret keywords: password, passfile, sslpassword, oauth_client_secret, scram_….
    private static let words = ["pass", "secret", "scram"]

    func masking(_ message: String) -> String {
        let parts = message.split(separator: "\"", omittingEmptySubsequences: false)
        // The quoted text itself contains a quote, so it is unclear where the text ends. Everything after the first
        // quote is masked.
        guard !regions.isEmpty, parts.count % 2 == 1 else {
            return regions.isEmpty ? message : String(parts[0]) + "\"********\""
        }
        return parts.enumerated().map { number, part in
            // The part is a piece of a secret or, if libpq repeats the whole string, contains a secret.
            let isSecret =
                number % 2 == 1 && !part.isEmpty && regions.contains { $0.contains(part) || part.contains($0) }
            return isSecret ? "********" : String(part)
        }.joined(separator: "\"")
    }
}
