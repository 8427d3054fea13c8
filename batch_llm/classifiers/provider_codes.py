"""Error codes and types of providers, in lower case, by category.

Sources: https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://console.groq.com/docs/errors, https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter,
https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html,
https://docs.mistral.ai/resources/error-codes, https://openrouter.ai/docs/api-reference/errors,
https://docs.together.ai/docs/error-codes, https://www.alibabacloud.com/help/en/model-studio/error-code.
"""

from __future__ import annotations

from .error_bodies import ErrorBody

_CODES = {
    "quota_exhausted": (
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "credit_balance_exhausted",
        "credit_limit",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "exceeded_current_quota_error",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "payment_required",
        "servicequotaexceededexception",
        "arrearage",
    ),
    "content_filter": (
        "content_filter",
        "content_policy_violation",
        "content_policy_error",
        "content_moderation",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "datainspectionfailed",
        "invalid_prompt",  # OpenAI: a prompt that its reasoning models reject
        "moderation_blocked",
        "moderation_error",
        "prompt_blocked",
        "prohibited_content",
        "safety_check_failed",
    ),
    "model_not_found": (
        "model_not_found",
        "model_decommissioned",
        "model_deprecated",
        "model_retired",
        "model_not_available",
        "model_not_supported",
        "model_not_exist",
        "model_does_not_exist",
        "model_not_allowed",
        "model_terms_required",
        "model_permission_blocked_org",
        "model_permission_blocked_project",
        "modelnotfound",
        "no_such_model",
        "invalid_model",
        "invalid_model_id",
        "unknown_model",
        "unsupported_model",
        "deploymentnotfound",
        "deployment_not_found",
    ),
    "auth": (
        "invalid_api_key",
        "authentication_error",
        "invalid_authentication",
        "invalid_authentication_error",
        "incorrect_api_key_error",
        "account_deactivated",
        "unauthenticated",
        "unauthorized",
        "permission_denied",
        "unsupported_country_region_territory",
        "ip_not_authorized",
        "accessdeniedexception",
        "unrecognizedclientexception",
        "invalidsignatureexception",
        "expiredtokenexception",
    ),
    "rate_limit": (
        "rate_limit_exceeded",
        "rate_limit_error",
        "rate_limit_reached_error",
        "rate_limited",
        "ratelimitexceeded",
        "userratelimitexceeded",
        "ratelimitreached",
        "too_many_requests",
        "too_many_requests_error",
        "throttlingexception",
        "throttling",
        "resource_exhausted",
    ),
    "server_error": (
        "overloaded_error",
        "overloaded",
        "engine_overloaded_error",
        "server_is_overloaded",
        "server_error",
        "internal_server_error",
        "internal_error",
        "service_unavailable",
        "service_unavailable_error",
        "provider_unavailable",
        "internalserverexception",
        "serviceunavailableexception",
        "modelnotreadyexception",
        "modelstreamerrorexception",
        "mpagreementbeingcreated",
    ),
}
_CATEGORIES = {code: category for category, codes in _CODES.items() for code in codes}
_ORDER = tuple(_CODES)


def category_of_codes(body: ErrorBody) -> str | None:
    """Return the category of the codes in an error body; of several, the least retryable one."""
    found = {_CATEGORIES[code] for code in body.codes if code in _CATEGORIES}
    if any(code.startswith("api_key_") for code in body.codes):  # Google's reasons, beside a 400
        return "auth"
    return min(found, key=_ORDER.index, default=None)
